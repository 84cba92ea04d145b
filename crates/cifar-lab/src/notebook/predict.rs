//! Displays predictions: an image with bars, a gallery, a table.

use notebook_charts::{Figure, Gallery, Table, View, picture_with_bars};
use std::fmt::{self, Display, Formatter};

use super::show::Show;
use crate::error::Result;
use crate::evaluate::NO_CLASS;
use crate::predict::{ClassProbability, NAMED, PicturePrediction, PicturePredictions, fitted};

/// The most classes with a bar.
const BARS: usize = 5;

impl PicturePrediction {
    /// The image, what the network sees of it, and a bar for each of the five most likely classes.
    ///
    /// # Errors
    /// If it can't be drawn.
    pub fn figure(&self) -> Result<Figure> {
        let top = self.top(BARS);
        let names: Vec<&str> = top.iter().map(|class| class.class.as_str()).collect();
        let values: Vec<f64> = top.iter().map(|class| class.probability.into()).collect();
        let (width, height) = self.input().dimensions();
        let pictures = [
            (&*self.shown, "the image's center".to_string()),
            (&fitted(self.input()), format!("the network sees {width}×{height}")),
        ];
        let title = if self.classes().is_empty() { self.to_string() } else { self.name().to_string() };
        Ok(picture_with_bars(&title, &pictures, &names, &values)?.with_text(self.to_string()))
    }
}

impl Show for PicturePrediction {
    /// The [`figure`](PicturePrediction::figure).
    fn view(&self) -> View {
        self.figure().map_or_else(|_| View::line(self.to_string()), View::from)
    }
}

impl PicturePredictions {
    /// The pictures as the network sees them, each with its likeliest class.
    ///
    /// # Errors
    /// If there are none, or too many to show.
    pub fn figure(&self) -> Result<Figure> {
        let label = |prediction: &PicturePrediction| {
            let class = prediction.top(1).first().map_or(NO_CLASS.to_string(), ClassProbability::to_string);
            format!("{class}\n{}", prediction.name())
        };
        let labels: Vec<String> = self.predictions().iter().map(label).collect();
        let pictures = self.predictions().iter().map(|prediction| prediction.input().clone()).collect();
        let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let mut title = format!("Predictions for {}", counted(self.predictions().len(), "image"));
        if !self.refused().is_empty() {
            title += &format!("; {} refused (print the predictions to see why)", counted(self.refused().len(), "file"));
        }
        Ok(Gallery::new(pictures).labels(&labels).title(title).draw()?.with_text(self.to_string()))
    }

    /// A row for each picture with its `k` likeliest classes, followed by the refused files.
    pub fn table(&self, k: usize) -> Table {
        let ranks = (1..=k).map(|rank| if rank == 1 { "likeliest".to_string() } else { format!("{rank}.") });
        let mut table = Table::new(["picture".to_string()].into_iter().chain(ranks));
        for prediction in self.predictions() {
            let classes = prediction.top(k).iter().map(ClassProbability::to_string);
            let nothing = prediction.classes().is_empty().then(|| NO_CLASS.to_string());
            table = table.row([prediction.name().to_string()].into_iter().chain(classes).chain(nothing));
        }
        for refused in self.refused() {
            table = table.row([refused.name.clone(), "refused".to_string()]);
        }
        table
    }
}

impl Show for PicturePredictions {
    /// The [`figure`](PicturePredictions::figure), or the table and why files were refused, if there are too many
    /// pictures or none.
    fn view(&self) -> View {
        let reasons = || self.refused().iter().map(|refused| View::line(refused.reason.to_string()));
        self.figure().map_or_else(|_| reasons().fold(self.table(NAMED).view(), View::above), View::from)
    }
}

impl Display for PicturePredictions {
    /// The table, followed by why files were refused.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.table(NAMED))?;
        self.refused().iter().try_for_each(|refused| write!(f, "\n{}", refused.reason))
    }
}
