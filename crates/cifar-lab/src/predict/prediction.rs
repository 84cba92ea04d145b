//! What a network says of pictures, as text, table and picture.

use image::{RgbImage, imageops};
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use crate::display::{Figure, Show, Table, View};
use crate::error::Result;
use crate::evaluate::{NO_CLASS, are_numbers};
use crate::picture::{self, PictureError};
use crate::plot::{Gallery, picture_with_bars};

/// The classes that are named in a line of text or a row of a table.
const NAMED: usize = 3;
/// The classes that get a bar.
const BARS: usize = 5;
/// The side in pixels of the square in which a picture is shown.
const SHOWN: u32 = 160;

/// A class with the probability that the network gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassProbability {
    /// The class's name.
    pub class: String,
    /// Its probability (softmax), in [0, 1].
    pub probability: f32,
}

impl Display for ClassProbability {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.1} %", self.class, 100.0 * self.probability)
    }
}

/// What a network says of one picture: all classes, the likeliest first; none where its output is NaN or infinite. A clone
/// shares it.
///
/// As the last expression of a cell it shows the picture, what the network sees of it, and bars.
#[derive(Clone, Debug)]
pub struct PicturePrediction {
    name: String,
    /// What of the picture was looked at, as it is shown.
    shown: Arc<RgbImage>,
    input: Arc<RgbImage>,
    classes: Arc<[ClassProbability]>,
}

impl PicturePrediction {
    pub(super) fn new(name: String, middle: &RgbImage, input: RgbImage, names: &[String], row: &[f32]) -> Self {
        let row = if are_numbers(row) { row } else { &[] };
        let mut classes: Vec<ClassProbability> = names
            .iter()
            .zip(row)
            .map(|(class, &probability)| ClassProbability { class: class.clone(), probability })
            .collect();
        // Stable: on ties the first class is first, as in `evaluate`.
        classes.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        Self { name, shown: Arc::new(fitted(middle)), input: Arc::new(input), classes: classes.into() }
    }

    /// The file's name, "a picture", or what [`named`](Self::named) says.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same under another name, which stands above its figure.
    ///
    /// ```
    /// use candle_core::Device;
    /// use cifar_lab::{checkpoint::ModelCard, dataset::Cifar10, loader::DataLoader, model::Net, predict::Predictor};
    ///
    /// let data = Cifar10::stand_in(0, 10, 10);
    /// let net = Net::new(&Default::default(), candle_cnn::parameters::Parameters::new(0).var_builder(&Device::Cpu))?;
    /// let card = ModelCard::new(&DataLoader::new(&data.test, &Device::Cpu));
    /// let predictor = Predictor::new(net, &card, &Device::Cpu)?;
    /// let prediction = predictor.predict(data.test.image(0)?)?.named("the first test picture");
    /// assert!(prediction.to_string().starts_with("the first test picture: "));
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// All classes, the likeliest first; none where the network's output is NaN or infinite, so that it says nothing.
    pub fn classes(&self) -> &[ClassProbability] {
        &self.classes
    }

    /// The `k` likeliest classes, or all if there are fewer.
    pub fn top(&self, k: usize) -> &[ClassProbability] {
        &self.classes[..k.min(self.classes.len())]
    }

    /// What the network saw: the picture's middle in the network's size.
    pub fn input(&self) -> &RgbImage {
        &self.input
    }

    /// The picture, what the network sees of it, and a bar for each of the five likeliest classes.
    ///
    /// # Errors
    /// Where it cannot be drawn.
    pub fn figure(&self) -> Result<Figure> {
        let top = self.top(BARS);
        let names: Vec<&str> = top.iter().map(|class| class.class.as_str()).collect();
        let values: Vec<f64> = top.iter().map(|class| class.probability.into()).collect();
        let (width, height) = self.input.dimensions();
        let pictures = [
            (&*self.shown, "the picture's middle".to_string()),
            (&fitted(&self.input), format!("the network sees {width}×{height}")),
        ];
        let title = if self.classes.is_empty() { self.to_string() } else { self.name.clone() };
        Ok(picture_with_bars(&title, &pictures, &names, &values)?.with_text(self.to_string()))
    }
}

impl Show for PicturePrediction {
    /// The [`figure`](PicturePrediction::figure).
    fn view(&self) -> View {
        self.figure().map_or_else(|_| View::line(self.to_string()), View::from)
    }
}

/// `picture` in the size in which it is shown: scaled down, or its pixels enlarged as squares.
fn fitted(picture: &RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let longest = width.max(height).max(1);
    if longest > SHOWN {
        let scaled = |side: u32| (u64::from(side) * u64::from(SHOWN) / u64::from(longest)).max(1) as u32;
        return picture::resize(picture, scaled(width), scaled(height));
    }
    let factor = SHOWN / longest;
    imageops::resize(picture, width * factor, height * factor, imageops::FilterType::Nearest)
}

impl Display for PicturePrediction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.classes.is_empty() {
            return write!(f, "{}: the network's output is {NO_CLASS} (NaN or infinite)", self.name);
        }
        let classes: Vec<String> = self.top(NAMED).iter().map(ClassProbability::to_string).collect();
        write!(f, "{}: {}", self.name, classes.join(", "))
    }
}

/// A file that was not looked at.
#[derive(Debug)]
pub struct Refused {
    /// The file's name.
    pub name: String,
    /// Why.
    pub reason: PictureError,
}

/// What a network says of several files.
///
/// As the last expression of a cell it shows the pictures with their likeliest class.
#[derive(Debug, Default)]
pub struct PicturePredictions {
    pub(super) predictions: Vec<PicturePrediction>,
    pub(super) refused: Vec<Refused>,
}

impl PicturePredictions {
    /// What it says of each picture, in the order of the files.
    pub fn predictions(&self) -> &[PicturePrediction] {
        &self.predictions
    }

    /// The files that are no pictures that can be read, with the reason.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// The pictures as the network sees them, each with its likeliest class.
    ///
    /// # Errors
    /// Where there are none, or too many to be shown.
    pub fn figure(&self) -> Result<Figure> {
        let label = |prediction: &PicturePrediction| {
            let class = prediction.top(1).first().map_or(NO_CLASS.to_string(), ClassProbability::to_string);
            format!("{class}\n{}", prediction.name)
        };
        let labels: Vec<String> = self.predictions.iter().map(label).collect();
        let pictures = self.predictions.iter().map(|prediction| prediction.input().clone()).collect();
        let title = format!("What the network says of {} pictures", self.predictions.len());
        Ok(Gallery::new(pictures).labels(&labels).title(title).draw()?.with_text(self.to_string()))
    }

    /// A row for each picture with its `k` likeliest classes, and below them the refused files.
    pub fn table(&self, k: usize) -> Table {
        let ranks = (1..=k).map(|rank| if rank == 1 { "likeliest".to_string() } else { format!("{rank}.") });
        let mut table = Table::new(["picture".to_string()].into_iter().chain(ranks));
        for prediction in &self.predictions {
            let classes = prediction.top(k).iter().map(ClassProbability::to_string);
            let nothing = prediction.classes.is_empty().then(|| NO_CLASS.to_string());
            table = table.row([prediction.name.clone()].into_iter().chain(classes).chain(nothing));
        }
        for refused in &self.refused {
            table = table.row([refused.name.clone(), "refused".to_string()]);
        }
        table
    }
}

impl Show for PicturePredictions {
    /// The [`figure`](PicturePredictions::figure), or the table where there are too many pictures, or none.
    fn view(&self) -> View {
        self.figure().map_or_else(|_| View::from(self.table(NAMED)), View::from)
    }
}

impl FromIterator<PicturePredictions> for PicturePredictions {
    /// All of them as one, in order.
    fn from_iter<I: IntoIterator<Item = Self>>(parts: I) -> Self {
        parts.into_iter().fold(Self::default(), |mut all, part| {
            all.predictions.extend(part.predictions);
            all.refused.extend(part.refused);
            all
        })
    }
}

impl Display for PicturePredictions {
    /// The table, and below it why files were refused.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.table(NAMED))?;
        self.refused.iter().try_for_each(|refused| write!(f, "\n{}", refused.reason))
    }
}
