//! How data sets and loaders show themselves.

use notebook_charts::{Figure, Gallery, Table, View};

use super::show::Show;
use crate::dataset::Dataset;
use crate::error::Result;
use crate::loader::DataLoader;
use crate::transform::{Augment, Normalize};

impl Dataset {
    /// The first `n` pictures with their classes, enlarged, in rows of eight.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let data = cifar_lab::dataset::Cifar10::stand_in(0, 100, 10);
    /// assert!(data.train.gallery(24)?.title().starts_with("stand-in"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When there are fewer, or they cannot be drawn.
    pub fn gallery(&self, n: usize) -> Result<Figure> {
        // First the error for too many: no memory is asked for pictures that there are not.
        let n = self.first(n)?.len();
        let (mut pictures, mut labels) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for index in 0..n {
            pictures.push(self.image(index)?);
            labels.push(&self.class_names()[self.label(index)?]);
        }
        let title = format!("{}, {}", self.name(), self.split());
        Ok(Gallery::new(pictures).labels(&labels).title(title).draw()?)
    }
}

impl Show for DataLoader {
    fn view(&self) -> View {
        let config = self.config();
        let yes_or_no = |yes: bool| if yes { "yes" } else { "no" };
        let order = if config.shuffle {
            format!("another in each epoch, from seed {}", config.seed)
        } else {
            "the data set's".into()
        };
        let changes: Vec<String> = config.augment.iter().map(Augment::describe).collect();
        let changes = if changes.is_empty() { "none".to_string() } else { changes.join(", then ") };
        let values = config.normalize.as_ref().map_or("from 0 to 1".to_string(), |Normalize { mean, std }| {
            format!("normalized with mean {mean:.4?}, standard deviation {std:.4?}")
        });
        Table::new(["a loader of batches", ""])
            .row(["data set", &self.dataset().to_string()])
            .row(["batch size", &config.batch_size.to_string()])
            .row(["batches in an epoch", &self.len().to_string()])
            .row(["last one left out if not full", yes_or_no(config.drop_last)])
            .row(["order", &order])
            .row(["random changes", &changes])
            .row(["values", &values])
            .into()
    }
}
