//! A network's predictions for pictures.

use image::{RgbImage, imageops};
use notebook_charts::numbers;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use crate::evaluate::{NO_CLASS, are_numbers};
use crate::picture::{self, PictureError};

/// How many classes a line of text or a table row names.
pub(crate) const NAMED: usize = 3;
/// The side of the square in which a picture is shown, in pixels.
const SHOWN: u32 = 160;

/// A class and its probability.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassProbability {
    /// The class's name.
    pub class: String,
    /// Its probability (softmax), in [0, 1].
    pub probability: f32,
}

impl Display for ClassProbability {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.class, numbers::percent(self.probability.into()))
    }
}

/// A network's prediction for one picture: all classes, most likely first; none if the output is NaN or infinite. A
/// clone shares the data.
///
/// As a cell's last expression, it shows the picture, what the network sees of it, and a bar chart.
#[derive(Clone, Debug)]
pub struct PicturePrediction {
    name: String,
    /// The part of the picture that was used, at display size.
    pub(crate) shown: Arc<RgbImage>,
    input: Arc<RgbImage>,
    classes: Arc<[ClassProbability]>,
}

impl PicturePrediction {
    pub(super) fn new(name: String, shown: RgbImage, input: RgbImage, names: &[String], row: &[f32]) -> Self {
        let row = if are_numbers(row) { row } else { &[] };
        let mut classes: Vec<ClassProbability> = names
            .iter()
            .zip(row)
            .map(|(class, &probability)| ClassProbability { class: class.clone(), probability })
            .collect();
        // A stable sort: on ties the first class comes first, as in `evaluate`.
        classes.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        Self { name, shown: Arc::new(shown), input: Arc::new(input), classes: classes.into() }
    }

    /// The file's name, "a picture", or the name set with [`with_name`](Self::with_name).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same prediction under another name, which is the title of its figure.
    pub fn with_name(&self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self.clone() }
    }

    /// All classes, most likely first; none if the network's output is NaN or infinite.
    pub fn classes(&self) -> &[ClassProbability] {
        &self.classes
    }

    /// The `k` most likely classes, or all if there are fewer.
    pub fn top(&self, k: usize) -> &[ClassProbability] {
        &self.classes[..k.min(self.classes.len())]
    }

    /// The network's input: the center of the picture, resized to the network's input size.
    pub fn input(&self) -> &RgbImage {
        &self.input
    }
}

/// `picture` at display size: scaled down, or with its pixels enlarged to squares.
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

/// A file that was refused.
#[derive(Debug)]
pub struct Refused {
    /// The file's name.
    pub name: String,
    /// Why it was refused.
    pub reason: PictureError,
}

/// A network's predictions for several files.
///
/// As a cell's last expression, it shows the pictures with their most likely class.
#[derive(Debug, Default)]
pub struct PicturePredictions {
    pub(super) predictions: Vec<PicturePrediction>,
    pub(super) refused: Vec<Refused>,
}

impl PicturePredictions {
    /// The prediction for each picture, in the order of the files.
    pub fn predictions(&self) -> &[PicturePrediction] {
        &self.predictions
    }

    /// The files that can't be read as pictures, and why.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }
}

impl FromIterator<PicturePredictions> for PicturePredictions {
    /// Concatenates them, in order.
    fn from_iter<I: IntoIterator<Item = Self>>(parts: I) -> Self {
        parts.into_iter().fold(Self::default(), |mut all, part| {
            all.predictions.extend(part.predictions);
            all.refused.extend(part.refused);
            all
        })
    }
}
