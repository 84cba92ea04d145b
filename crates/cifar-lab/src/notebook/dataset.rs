//! Displays data sets and loaders.

use notebook_charts::{Figure, Gallery, Table, View, numbers};

use super::show::Show;
use super::tensor::{Range, summary};
use crate::dataset::{ChannelStatistics, Cifar10, Dataset};
use crate::error::Result;
use crate::loader::{Batch, DataLoader};
use crate::transform::{Augment, Normalize};

/// The most labels of a batch that are shown.
const MOST_LABELS: usize = 12;

impl Dataset {
    /// The first `n` images with their classes, enlarged, in rows of eight.
    ///
    /// # Errors
    /// If there are fewer, or they can't be drawn.
    pub fn gallery(&self, n: usize) -> Result<Figure> {
        // Fails before allocating for images that don't exist.
        let n = self.first(n)?.len();
        let (mut images, mut labels) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for index in 0..n {
            images.push(self.image(index)?);
            labels.push(&self.class_names()[self.label(index)?]);
        }
        let title = format!("{}, {}", self.name(), self.split());
        Ok(Gallery::new(images).labels(&labels).title(title).draw()?)
    }
}

impl Show for Cifar10 {
    fn view(&self) -> View {
        let row = |set: &Dataset| {
            let (channels, height, width) = set.image_shape();
            let bytes = set.len() * set.image_length();
            let shape = format!("{channels} × {height} × {width}");
            [set.split().to_string(), numbers::grouped(set.len() as u128), shape, numbers::bytes(bytes as u64)]
        };
        let table = Table::new(["part", "images", "shape", "in memory"]).row(row(&self.train)).row(row(&self.test));
        table.caption(self.train.name()).into()
    }
}

impl Show for Dataset {
    /// The classes with their numbers of images.
    fn view(&self) -> View {
        let header = ["label", "class", "images", "share"];
        let counts = self.class_counts();
        let rows = self.class_names().iter().zip(counts).enumerate();
        let table = rows.fold(Table::new(header), |table, (label, (name, count))| {
            let share = numbers::percent(count as f64 / self.len() as f64);
            table.row([label.to_string(), name.clone(), numbers::grouped(count as u128), share])
        });
        table.caption(self.to_string()).footer(["", "all", &numbers::grouped(self.len() as u128), ""]).into()
    }
}

/// A row for each channel: red, green and blue if there are three.
fn channels(mean: &[f32], std: &[f32]) -> Table {
    let names = if mean.len() == 3 { vec!["red", "green", "blue"] } else { vec![] };
    let number = |value: &f32| format!("{value:.4}");
    let rows = mean.iter().zip(std).enumerate();
    rows.fold(Table::new(["channel", "mean", "standard deviation"]), |table, (channel, (mean, std))| {
        let name = names.get(channel).map_or_else(|| format!("channel {channel}"), |name| name.to_string());
        table.row([name, number(mean), number(std)])
    })
}

impl Show for ChannelStatistics {
    fn view(&self) -> View {
        channels(&self.mean, &self.std).caption("Values from 0 to 1").into()
    }
}

impl Show for Normalize {
    fn view(&self) -> View {
        channels(&self.mean, &self.std).caption("Normalize: (value − mean) / standard deviation").into()
    }
}

impl Show for DataLoader {
    fn view(&self) -> View {
        let config = self.config();
        let yes_or_no = |yes: bool| if yes { "yes" } else { "no" };
        let order = if config.shuffle {
            format!("a new one in each epoch, from seed {}", config.seed)
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
            .row(["incomplete last batch left out", yes_or_no(config.drop_last)])
            .row(["order", &order])
            .row(["random changes", &changes])
            .row(["values", &values])
            .into()
    }
}

impl Show for Batch {
    fn view(&self) -> View {
        let range =
            |range: Range| format!("from {} to {}", numbers::measured(range.least), numbers::measured(range.greatest));
        let values = Range::of(&self.images).map_or("–".to_string(), range);
        let first = |numbers: Vec<String>| {
            let more = if numbers.len() > MOST_LABELS { ", …" } else { "" };
            format!("{}{more}", numbers[..numbers.len().min(MOST_LABELS)].join(", "))
        };
        let labels = self.labels.to_vec1::<u32>().unwrap_or_default();
        Table::new(["a batch", "", "values"])
            .row(["images", &summary(&self.images), &values])
            .row(["labels", &summary(&self.labels), &first(labels.iter().map(u32::to_string).collect())])
            .row(["indices", "in the data set", &first(self.indices.iter().map(usize::to_string).collect())])
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notebook::show::assert_shows;
    use candle_core::Device;

    #[test]
    fn figures_are_in_the_html_and_in_the_text() -> Result<()> {
        let data = Cifar10::stand_in(0, 40, 10);
        let loader = DataLoader::new(&data.train, &Device::Cpu).shuffle(3).normalize(&Normalize::default());
        let statistics = ChannelStatistics { mean: vec![0.5], std: vec![0.25] };
        for (view, wanted) in [
            (data.view(), ["stand-in (generated", "122.9 kB"]),
            (data.train.view(), ["10.0 %", "3×32×32"]),
            (loader.view(), ["from seed 3", "normalized with mean [0.5000, 0.5000, 0.5000]"]),
            (loader.first_batch()?.view(), ["[32, 3, 32, 32] f32", ", …"]),
            (statistics.view(), ["channel 0", "0.2500"]),
            (Normalize::default().view(), ["blue", "0.5000"]),
        ] {
            assert_shows(&view, &wanted);
        }
        Ok(())
    }
}
