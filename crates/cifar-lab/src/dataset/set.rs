//! A data set in memory: images as bytes, and their labels.

use md5::{Digest, Md5};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use candle_core::{Device, Tensor};

use super::{DatasetError, Result};
use crate::checksum::hexadecimal;
use crate::device::{finish_work, free_memory};

/// A data set stays on a GPU if it takes at most one part in this many of the free memory; training needs the rest.
const SHARE_OF_FREE_MEMORY: usize = 4;

/// The name of the generated images.
const STAND_IN_NAME: &str = "stand-in (generated images, not CIFAR-10)";

/// A part of a data set: for training or for testing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// The images to train on.
    Train,
    /// The images to test on; the network is never trained on them.
    Test,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Split::Train => "train",
            Split::Test => "test",
        })
    }
}

/// Where the images come from, so that no one mistakes one set's figures for another's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// CIFAR-10, read from this folder.
    Cifar10(PathBuf),
    /// Generated images.
    StandIn {
        /// The seed of the generator.
        seed: u64,
    },
    /// Another set, by its name.
    Named(String),
}

/// Mean and standard deviation of each channel's values in [0, 1].
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelStatistics {
    /// A mean for each channel.
    pub mean: Vec<f32>,
    /// A standard deviation for each channel, over all pixels (divided by their number, not by one less).
    pub std: Vec<f32>,
}

struct Storage {
    source: Source,
    shape: (usize, usize, usize),
    class_names: Vec<String>,
    /// N images, each as channel planes of rows, [N, C, H, W].
    pixels: Vec<u8>,
    labels: Vec<u32>,
    /// A checksum of `pixels`, computed on first use.
    pixels_checksum: OnceLock<String>,
    /// The pixels on GPUs, copied there on first use.
    uploads: Mutex<Vec<Upload>>,
}

/// All stored images in a GPU's memory, u8 [N, C, H, W].
struct Upload(Tensor);

impl Drop for Upload {
    fn drop(&mut self) {
        // Other threads' work may still read them: each thread has its own stream.
        finish_work();
    }
}

/// Which of the stored images belong to a set, in which order.
#[derive(Clone)]
enum Selection {
    Range(Range<usize>),
    List(Arc<[usize]>),
}

/// Labeled images, held once in memory as bytes, [N, C, H, W] with values 0 to 255.
///
/// A clone, [`first`](Self::first), [`subset`](Self::subset) and [`split_at`](Self::split_at) share the pixels.
///
/// ```
/// use cifar_lab::dataset::Cifar10;
///
/// let train = Cifar10::stand_in(0, 100, 20).train;
/// assert_eq!((train.len(), train.image_shape()), (100, (3, 32, 32)));
/// assert_eq!(train.class_counts(), vec![10; 10]);
/// let (train, validation) = train.split_at(90)?;
/// assert_eq!((train.len(), validation.len()), (90, 10));
/// assert_eq!(train.subset(&[7, 3])?.pixels(1)?, train.pixels(3)?);
/// assert_eq!(train.tensor(0..4, &candle_core::Device::Cpu)?.dims(), [4, 3, 32, 32]);
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
#[derive(Clone)]
pub struct Dataset {
    storage: Arc<Storage>,
    selection: Selection,
    split: Split,
}

impl Dataset {
    /// A set from its parts: images of `shape` (channels, height, width) as bytes [N, C, H, W], and N labels, each
    /// the number of a class name.
    ///
    /// # Errors
    /// If the pixels don't fit the shape and the number of labels, a side is 0, or a label has no class name.
    pub fn new(
        source: Source,
        split: Split,
        shape: (usize, usize, usize),
        class_names: Vec<String>,
        pixels: Vec<u8>,
        labels: Vec<u32>,
    ) -> Result<Self> {
        let (channels, height, width) = shape;
        if channels == 0 || height == 0 || width == 0 {
            return Err(DatasetError::NoPixels(channels, height, width));
        }
        let expected = [channels, height, width].iter().fold(labels.len(), |product, &n| product.saturating_mul(n));
        if pixels.len() != expected {
            let (labels, found) = (labels.len(), pixels.len());
            return Err(DatasetError::PixelCount { labels, channels, height, width, expected, found });
        }
        if let Some(index) = labels.iter().position(|&label| label as usize >= class_names.len()) {
            return Err(DatasetError::Label { index, label: labels[index], classes: class_names.len() });
        }
        Ok(Self::from_checked(source, split, shape, class_names, pixels, labels))
    }

    /// A set from parts that fit together.
    pub(super) fn from_checked(
        source: Source,
        split: Split,
        shape: (usize, usize, usize),
        class_names: Vec<String>,
        pixels: Vec<u8>,
        labels: Vec<u32>,
    ) -> Self {
        let selection = Selection::Range(0..labels.len());
        let storage = Arc::new(Storage {
            source,
            shape,
            class_names,
            pixels,
            labels,
            pixels_checksum: OnceLock::new(),
            uploads: Mutex::default(),
        });
        Self { storage, selection, split }
    }

    /// The number of images, N.
    pub fn len(&self) -> usize {
        match &self.selection {
            Selection::Range(range) => range.len(),
            Selection::List(list) => list.len(),
        }
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All stored images on `device`, u8 [N, C, H, W], copied there once and kept as long as the data set; `None` if
    /// they would take too much of its free memory.
    pub(crate) fn stored_pictures(&self, device: &Device) -> Option<Tensor> {
        let storage = &self.storage;
        // A panic elsewhere leaves the list as it was.
        let mut uploads = storage.uploads.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(Upload(pictures)) = uploads.iter().find(|upload| upload.0.device().same_device(device)) {
            return Some(pictures.clone());
        }
        if free_memory(device).is_some_and(|free| storage.pixels.len() > free / SHARE_OF_FREE_MEMORY) {
            return None;
        }
        let (channels, height, width) = storage.shape;
        let pictures = Tensor::from_slice(&storage.pixels, (storage.labels.len(), channels, height, width), device);
        let pictures = pictures.ok()?;
        // Before another thread's stream reads them.
        finish_work();
        uploads.push(Upload(pictures.clone()));
        Some(pictures)
    }

    /// The position of image `index` in the storage.
    pub(crate) fn stored(&self, index: usize) -> Result<usize> {
        let stored = match &self.selection {
            Selection::Range(range) => (index < range.len()).then(|| range.start + index),
            Selection::List(list) => list.get(index).copied(),
        };
        stored.ok_or(DatasetError::Index { index, length: self.len() })
    }

    /// A checksum of its images, in order, with their labels.
    pub(crate) fn checksum(&self) -> String {
        let pixels = || hexadecimal(Md5::new_with_prefix(&self.storage.pixels));
        let mut sum = Md5::new_with_prefix(self.storage.pixels_checksum.get_or_init(pixels));
        for (index, label) in self.labels().into_iter().enumerate() {
            let stored = self.stored(index).unwrap_or(usize::MAX);
            sum.update(stored.to_le_bytes());
            sum.update(label.to_le_bytes());
        }
        hexadecimal(sum)
    }

    /// The label of image `index`: the number of its class, from 0.
    ///
    /// # Errors
    /// If there is no such image.
    pub fn label(&self, index: usize) -> Result<usize> {
        Ok(self.storage.labels[self.stored(index)?] as usize)
    }

    /// The labels of all images, in order.
    pub fn labels(&self) -> Vec<u32> {
        match &self.selection {
            Selection::Range(range) => self.storage.labels[range.clone()].to_vec(),
            Selection::List(list) => list.iter().map(|&stored| self.storage.labels[stored]).collect(),
        }
    }

    /// The bytes of image `index`, [C, H, W]: the first channel row by row, then the next.
    ///
    /// # Errors
    /// If there is no such image.
    pub fn pixels(&self, index: usize) -> Result<&[u8]> {
        let stored = self.stored(index)?;
        let length = self.image_length();
        Ok(&self.storage.pixels[stored * length..(stored + 1) * length])
    }

    /// Image `index` as RGB, width × height, for plots and files; a grayscale set gives gray.
    ///
    /// # Errors
    /// If there is no such image, or it has neither 1 nor 3 channels.
    pub fn image(&self, index: usize) -> Result<image::RgbImage> {
        let (channels, height, width) = self.image_shape();
        let pixels = self.pixels(index)?;
        // From the start of one channel to the start of the next, or to itself for gray.
        let stride = match channels {
            1 => 0,
            3 => height * width,
            _ => return Err(DatasetError::Channels(channels)),
        };
        Ok(image::RgbImage::from_fn(width as u32, height as u32, |x, y| {
            let at = y as usize * width + x as usize;
            image::Rgb([pixels[at], pixels[at + stride], pixels[at + 2 * stride]])
        }))
    }

    /// The class names; a label is a position in this list.
    pub fn class_names(&self) -> &[String] {
        &self.storage.class_names
    }

    /// How many images each class has, in the order of the class names.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.class_names().len()];
        self.labels().into_iter().for_each(|label| counts[label as usize] += 1);
        counts
    }

    /// The set's name, for titles, prints and files: "CIFAR-10", or "stand-in (generated images, not CIFAR-10)".
    pub fn name(&self) -> &str {
        match &self.storage.source {
            Source::Cifar10(_) => "CIFAR-10",
            Source::StandIn { .. } => STAND_IN_NAME,
            Source::Named(name) => name,
        }
    }

    /// Where the images come from.
    pub fn source(&self) -> &Source {
        &self.storage.source
    }

    /// Whether these are the generated images, whose figures say nothing about CIFAR-10.
    pub fn is_stand_in(&self) -> bool {
        matches!(self.storage.source, Source::StandIn { .. })
    }

    /// Which part of the data this is.
    pub fn split(&self) -> Split {
        self.split
    }

    /// The shape of an image: (channels, height, width).
    pub fn image_shape(&self) -> (usize, usize, usize) {
        self.storage.shape
    }

    /// The bytes of an image: channels × height × width.
    pub fn image_length(&self) -> usize {
        let (channels, height, width) = self.image_shape();
        channels * height * width
    }

    /// The first `n` images.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn first(&self, n: usize) -> Result<Self> {
        Ok(self.split_at(n)?.0)
    }

    /// The first `n` images and the rest, for example to hold out a validation set.
    ///
    /// # Errors
    /// If there are fewer than `n`.
    pub fn split_at(&self, n: usize) -> Result<(Self, Self)> {
        let length = self.len();
        if n > length {
            return Err(DatasetError::Count { asked: n, length });
        }
        Ok((self.slice(0..n)?, self.slice(n..length)?))
    }

    /// The images of a range.
    fn slice(&self, range: Range<usize>) -> Result<Self> {
        let length = self.len();
        if range.start > range.end || range.end > length {
            return Err(DatasetError::Range { range, length });
        }
        let selection = match &self.selection {
            Selection::Range(all) => Selection::Range(all.start + range.start..all.start + range.end),
            Selection::List(list) => Selection::List(list[range].into()),
        };
        Ok(Self { selection, ..self.clone() })
    }

    /// The images with these indices, in this order; an index may repeat.
    ///
    /// # Errors
    /// If there is no image with one of the indices.
    pub fn subset(&self, indices: &[usize]) -> Result<Self> {
        let list = indices.iter().map(|&index| self.stored(index)).collect::<Result<Arc<[usize]>>>()?;
        Ok(Self { selection: Selection::List(list), ..self.clone() })
    }

    /// A range of images as a tensor on `device`: f32 [n, C, H, W] with values in [0, 1], like torchvision's ToTensor.
    ///
    /// # Errors
    /// If the range leaves the set, or the device fails.
    pub fn tensor(&self, range: Range<usize>, device: &Device) -> Result<Tensor> {
        let part = self.slice(range)?;
        let mut values = Vec::with_capacity(part.len() * self.image_length());
        for index in 0..part.len() {
            values.extend(part.pixels(index)?.iter().map(|&value| f32::from(value) / 255.0));
        }
        let (channels, height, width) = self.image_shape();
        Ok(Tensor::from_vec(values, (part.len(), channels, height, width), device)?)
    }

    /// Mean and standard deviation of each channel's values in [0, 1] over all images, from exact sums; NaN without
    /// images.
    pub fn channel_statistics(&self) -> ChannelStatistics {
        let (channels, height, width) = self.image_shape();
        let plane = height * width;
        let mut sums = vec![(0u64, 0u64); channels];
        for index in 0..self.len() {
            // Every index below the length exists.
            let Ok(pixels) = self.pixels(index) else { continue };
            for ((sum, squares), plane) in sums.iter_mut().zip(pixels.chunks_exact(plane)) {
                // The squares of 2¹⁶ bytes add up to less than 2³², so 32-bit sums suffice here.
                for chunk in plane.chunks(1 << 16) {
                    *sum += u64::from(chunk.iter().map(|&value| u32::from(value)).sum::<u32>());
                    *squares += u64::from(chunk.iter().map(|&value| u32::from(value).pow(2)).sum::<u32>());
                }
            }
        }
        let count = (self.len() * plane) as f64;
        let statistics = sums.iter().map(|&(sum, squares)| {
            let mean = sum as f64 / count;
            let variance = (squares as f64 / count - mean * mean).max(0.0);
            ((mean / 255.0) as f32, (variance.sqrt() / 255.0) as f32)
        });
        let (mean, std) = statistics.unzip();
        ChannelStatistics { mean, std }
    }
}

impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (channels, height, width) = self.image_shape();
        let (name, split, length, classes) = (self.name(), self.split, self.len(), self.class_names().len());
        write!(f, "{name}, {split}: {length} images of {channels}×{height}×{width} in {classes} classes")
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dataset({self})")
    }
}
