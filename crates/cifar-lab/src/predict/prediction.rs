//! What a network says of pictures.

use image::{RgbImage, imageops};
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use crate::evaluate::{NO_CLASS, are_numbers};
use crate::picture::{self, PictureError};

/// The classes that are named in a line of text or a row of a table.
pub(crate) const NAMED: usize = 3;
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
    pub(crate) shown: Arc<RgbImage>,
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
}

/// `picture` in the size in which it is shown: scaled down, or its pixels enlarged as squares.
pub(crate) fn fitted(picture: &RgbImage) -> RgbImage {
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
