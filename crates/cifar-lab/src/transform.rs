//! How images change on their way into a batch: random flips and crops, normalization.
//!
//! As in torchvision, flips and crops come before normalization, and a crop's padding is black; a translation's is the
//! image's reflection. Their random numbers depend on (seed, epoch, sample) alone, so the order of calls doesn't matter.

use candle_cnn::ops::{Placement, reflected};
use candle_cnn::random::stream;
use candle_core::Tensor;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::dataset::{ChannelStatistics, DatasetError, Result};

/// Normalizes each channel: (x − mean) / std for x in [0, 1], like torchvision's Normalize after ToTensor.
///
/// The default is the original notebook's: mean 0.5 and standard deviation 0.5 in each of three channels, which maps
/// [0, 1] to [-1, 1].
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use cifar_lab::transform::Normalize;
///
/// let black = Tensor::zeros((1, 3, 2, 2), DType::F32, &Device::Cpu)?;
/// let normalized = Normalize::default().apply(&black)?;
/// assert_eq!(normalized.flatten_all()?.to_vec1::<f32>()?, [-1.0; 12]);
/// assert!(Normalize { mean: vec![0.5], std: vec![0.25] }.check(3).is_err());
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalize {
    /// Subtracted from each channel's values in [0, 1].
    pub mean: Vec<f32>,
    /// Each channel is then divided by it.
    pub std: Vec<f32>,
}

impl Default for Normalize {
    fn default() -> Self {
        Self { mean: vec![0.5; 3], std: vec![0.5; 3] }
    }
}

impl From<ChannelStatistics> for Normalize {
    fn from(statistics: ChannelStatistics) -> Self {
        Self { mean: statistics.mean, std: statistics.std }
    }
}

impl Normalize {
    /// Checks that this fits images with `channels` channels.
    ///
    /// # Errors
    /// If there isn't one mean and one standard deviation per channel, if one of them is not finite, or if a standard
    /// deviation is not above 0.
    pub fn check(&self, channels: usize) -> Result<()> {
        let (means, stds) = (self.mean.len(), self.std.len());
        if means != channels || stds != channels {
            return Err(DatasetError::NormalizeChannels { means, stds, channels });
        }
        let wrong = |(mean, std): &(&f32, &f32)| !(mean.is_finite() && std.is_finite() && **std > 0.0);
        match self.mean.iter().zip(&self.std).find(wrong) {
            Some((&mean, &std)) => Err(DatasetError::Normalize { mean, std }),
            None => Ok(()),
        }
    }

    /// Normalizes a batch [B, C, H, W] of f32 in [0, 1], on its device.
    ///
    /// # Errors
    /// If the number of channels doesn't fit, or the device fails.
    pub fn apply(&self, images: &Tensor) -> Result<Tensor> {
        let (mean, std) = self.tensors(images)?;
        Ok(images.broadcast_sub(&mean)?.broadcast_div(&std)?)
    }

    /// Undoes [`apply`](Self::apply), to show a batch: x · std + mean.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn invert(&self, images: &Tensor) -> Result<Tensor> {
        let (mean, std) = self.tensors(images)?;
        Ok(images.broadcast_mul(&std)?.broadcast_add(&mean)?)
    }

    /// Mean and standard deviation as [1, C, 1, 1] on the images' device.
    fn tensors(&self, images: &Tensor) -> Result<(Tensor, Tensor)> {
        let (_, channels, _, _) = images.dims4()?;
        self.check(channels)?;
        let tensor = |values: &[f32]| Tensor::from_slice(values, (1, channels, 1, 1), images.device());
        Ok((tensor(&self.mean)?.to_dtype(images.dtype())?, tensor(&self.std)?.to_dtype(images.dtype())?))
    }

    /// The value of each byte in each channel: (byte / 255 − mean) / std, rounded as the tensor operations round.
    pub(crate) fn tables(&self) -> Vec<[f32; 256]> {
        let table = |(mean, std)| std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std);
        self.mean.iter().zip(&self.std).map(table).collect()
    }
}

/// Mirrors an image left to right with probability `p`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomHorizontalFlip {
    /// The probability, from 0 to 1.
    pub p: f64,
}

impl Default for RandomHorizontalFlip {
    /// Half of the images, as in torchvision.
    fn default() -> Self {
        Self { p: 0.5 }
    }
}

/// Pads an image with black on all sides and cuts a random part of the original size out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomCrop {
    /// The width of the border in pixels; less than a side of the image.
    pub padding: usize,
}

impl Default for RandomCrop {
    /// 4 pixels, the usual choice for CIFAR-10 since He et al., "Deep Residual Learning", 2015, section 4.2.
    fn default() -> Self {
        Self { padding: 4 }
    }
}

/// Mirrors a random half of the images in the first epoch, the other half in the second, and so on in turns: every two
/// epochs show each image once as it is and once mirrored, where independent flips show a quarter of them the same way
/// twice. (Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, section 3.6.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlternatingFlip;

/// Moves an image by up to so many pixels, in each direction alike; what it leaves is filled with its reflection (without
/// the border's own pixels twice, as in `torch.nn.functional.pad(mode="reflect")`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomTranslation {
    /// The largest distance, in pixels; less than a side of the image.
    pub pixels: usize,
}

impl Default for RandomTranslation {
    /// 2 pixels.
    fn default() -> Self {
        Self { pixels: 2 }
    }
}

/// A random change of an image, drawn anew in each epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Augment {
    /// Mirrored left to right.
    Flip(RandomHorizontalFlip),
    /// Moved by a few pixels, black around it.
    Crop(RandomCrop),
    /// Mirrored in every other epoch.
    AlternatingFlip(AlternatingFlip),
    /// Moved by a few pixels, its reflection around it.
    Translation(RandomTranslation),
}

impl From<RandomHorizontalFlip> for Augment {
    fn from(flip: RandomHorizontalFlip) -> Self {
        Self::Flip(flip)
    }
}

impl From<RandomCrop> for Augment {
    fn from(crop: RandomCrop) -> Self {
        Self::Crop(crop)
    }
}

impl From<AlternatingFlip> for Augment {
    fn from(flip: AlternatingFlip) -> Self {
        Self::AlternatingFlip(flip)
    }
}

impl From<RandomTranslation> for Augment {
    fn from(translation: RandomTranslation) -> Self {
        Self::Translation(translation)
    }
}

impl Augment {
    /// Checks that this fits images of this shape (channels, height, width).
    ///
    /// # Errors
    /// If a probability is not in [0, 1], or a padding or distance is as large as a side of the image.
    pub fn check(&self, (_, height, width): (usize, usize, usize)) -> Result<()> {
        match *self {
            Self::Flip(RandomHorizontalFlip { p }) if !(0.0..=1.0).contains(&p) => Err(DatasetError::Probability(p)),
            Self::Crop(RandomCrop { padding }) | Self::Translation(RandomTranslation { pixels: padding })
                if padding >= height.min(width) =>
            {
                Err(DatasetError::Padding { padding, height, width })
            }
            _ => Ok(()),
        }
    }

    /// The change in a few words.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Flip(flip) => format!("flipped with probability {}", flip.p),
            Self::Crop(crop) => format!("cropped after padding by {}", crop.padding),
            Self::AlternatingFlip(_) => "flipped in every other epoch".to_string(),
            Self::Translation(translation) => format!("moved by up to {} pixels", translation.pixels),
        }
    }

    /// Draws the change of one image. `key` is (epoch, sample, place among the loader's changes).
    fn draw(&self, seed: u64, key: [u64; 3]) -> Change {
        match *self {
            Self::Flip(RandomHorizontalFlip { p }) => {
                match stream(seed, "random horizontal flip", &key).random_bool(p) {
                    true => Change::Flip,
                    false => Change::Nothing,
                }
            }
            Self::Crop(RandomCrop { padding }) => {
                let (down, right) = move_by(&mut stream(seed, "random crop", &key), padding);
                Change::Move { down, right, reflect: false }
            }
            Self::Translation(RandomTranslation { pixels }) => {
                let (down, right) = move_by(&mut stream(seed, "random translation", &key), pixels);
                Change::Move { down, right, reflect: true }
            }
            Self::AlternatingFlip(_) => {
                let [epoch, sample, place] = key;
                let first = stream(seed, "alternating flip", &[sample, place]).random_bool(0.5);
                if first ^ (epoch % 2 == 1) { Change::Flip } else { Change::Nothing }
            }
        }
    }

    /// Changes one image [C, H, W] in place, as drawn by [`Self::draw`].
    pub(crate) fn apply(&self, picture: &mut [u8], shape: (usize, usize, usize), seed: u64, key: [u64; 3]) {
        match self.draw(seed, key) {
            Change::Nothing => {}
            Change::Flip => flip(picture, shape.2),
            Change::Move { down, right, reflect: false } => crop(picture, shape, down, right),
            Change::Move { down, right, reflect: true } => translate(picture, shape, down, right),
        }
    }

    /// The same change, of the place from which an image is read. Exact if the image is moved only once: a second move
    /// would bring back what the first one cut off.
    pub(crate) fn place(&self, placement: Placement, seed: u64, key: [u64; 3]) -> Placement {
        match self.draw(seed, key) {
            Change::Nothing => placement,
            Change::Flip => placement.flip(),
            Change::Move { down, right, reflect } => Placement {
                down: placement.down + down as i32,
                right: placement.right + right as i32,
                reflected: placement.reflected || reflect,
                ..placement
            },
        }
    }

    /// Whether it moves the image.
    pub(crate) fn moves(&self) -> bool {
        matches!(self, Self::Crop(_) | Self::Translation(_))
    }
}

/// The change drawn for one image.
enum Change {
    Nothing,
    Flip,
    /// Read this many pixels further down and to the right; from outside comes black or the reflection.
    Move {
        down: isize,
        right: isize,
        reflect: bool,
    },
}

/// By how much an image is moved, `most` pixels in each direction at most.
fn move_by(rng: &mut impl Rng, most: usize) -> (isize, isize) {
    let (top, left) = (rng.random_range(0..=2 * most), rng.random_range(0..=2 * most));
    (top as isize - most as isize, left as isize - most as isize)
}

/// Mirrors an image [C, H, W] left to right.
fn flip(picture: &mut [u8], width: usize) {
    picture.chunks_exact_mut(width).for_each(<[u8]>::reverse);
}

/// Moves the pixel `down` rows below and `right` columns right of the corner (negative: above, left) into the corner of
/// the image [C, H, W]; pixels from outside are 0.
fn crop(picture: &mut [u8], (_, height, width): (usize, usize, usize), down: isize, right: isize) {
    let columns = width - right.unsigned_abs().min(width);
    let (from, to) = (right.max(0) as usize, (-right).max(0) as usize);
    for plane in picture.chunks_exact_mut(height * width) {
        // In an order that overwrites no row before it is read.
        let mut copy_row = |row: usize| {
            let target = row * width;
            match row.checked_add_signed(down).filter(|&source| source < height) {
                Some(source) => {
                    let source = source * width + from;
                    plane.copy_within(source..source + columns, target + to);
                    plane[target..target + to].fill(0);
                    plane[target + to + columns..target + width].fill(0);
                }
                None => plane[target..target + width].fill(0),
            }
        };
        if down >= 0 {
            (0..height).for_each(&mut copy_row);
        } else {
            (0..height).rev().for_each(&mut copy_row);
        }
    }
}

/// Like [`crop`], with the image's reflection around it.
fn translate(picture: &mut [u8], (_, height, width): (usize, usize, usize), down: isize, right: isize) {
    let mut before = vec![0; height * width];
    for plane in picture.chunks_exact_mut(height * width) {
        before.copy_from_slice(plane);
        for (row, line) in plane.chunks_exact_mut(width).enumerate() {
            let source = &before[reflected(row as isize + down, height) * width..][..width];
            for (column, value) in line.iter_mut().enumerate() {
                *value = source[reflected(column as isize + right, width)];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A shape, an image of it, and a move within its sides.
    fn pictures() -> impl Strategy<Value = ((usize, usize, usize), Vec<u8>, isize, isize)> {
        (1usize..4, 1usize..9, 1usize..9).prop_flat_map(|shape @ (c, h, w)| {
            let (h, w) = (h as isize, w as isize);
            (Just(shape), vec(any::<u8>(), c * (h * w) as usize), 1 - h..h, 1 - w..w)
        })
    }

    proptest! {
        #[test]
        fn flipping_twice_changes_nothing((shape, picture, _, _) in pictures()) {
            let mut flipped = picture.clone();
            flip(&mut flipped, shape.2);
            for (i, &value) in picture.iter().enumerate() {
                let (row, column) = (i / shape.2, i % shape.2);
                prop_assert_eq!(value, flipped[row * shape.2 + shape.2 - 1 - column]);
            }
            flip(&mut flipped, shape.2);
            prop_assert_eq!(flipped, picture);
        }

        #[test]
        fn a_crop_is_a_cut_out_of_the_padded_picture((shape, picture, down, right) in pictures()) {
            let (channels, height, width) = shape;
            let mut cropped = picture.clone();
            crop(&mut cropped, shape, down, right);
            for c in 0..channels {
                for y in 0..height {
                    for x in 0..width {
                        let (sy, sx) = (y as isize + down, x as isize + right);
                        let inside = (0..height as isize).contains(&sy) && (0..width as isize).contains(&sx);
                        let at = |y: usize, x: usize| (c * height + y) * width + x;
                        let expected = if inside { picture[at(sy as usize, sx as usize)] } else { 0 };
                        prop_assert_eq!(cropped[at(y, x)], expected, "channel {} row {} column {}", c, y, x);
                    }
                }
            }
        }
    }

    #[test]
    fn a_translation_is_torch_s_reflection() {
        // torch.nn.functional.pad([[[0, 1, 2], [3, 4, 5], [6, 7, 8]]], (2, 2, 2, 2), mode="reflect"), rows 0 to 2, columns
        // 3 to 5.
        let mut picture: Vec<u8> = (0..9).collect();
        translate(&mut picture, (1, 3, 3), -2, 1);
        assert_eq!(picture, [7, 8, 7, 4, 5, 4, 1, 2, 1]);
    }

    #[test]
    fn two_epochs_show_each_image_both_ways() {
        let flips = |epoch: u64| -> Vec<bool> {
            let flipped = |sample| {
                let mut picture = vec![1, 2];
                Augment::from(AlternatingFlip).apply(&mut picture, (1, 1, 2), 3, [epoch, sample, 0]);
                picture == [2, 1]
            };
            (0..1000).map(flipped).collect()
        };
        let first = flips(0);
        let others: Vec<bool> = first.iter().map(|flip| !flip).collect();
        assert_eq!((flips(1), flips(2), flips(7)), (others.clone(), first.clone(), others));
        // Half of them, within five standard deviations of 15.8.
        assert!((421..579).contains(&first.iter().filter(|flip| **flip).count()));
    }

    #[test]
    fn crops_reach_every_place_equally() {
        // An image with one white pixel in the middle shows where it was moved to.
        let mut counts = [[0; 5]; 5];
        for sample in 0..5000 {
            let mut picture = vec![0; 49];
            picture[24] = 255;
            Augment::Crop(RandomCrop { padding: 2 }).apply(&mut picture, (1, 7, 7), 3, [0, sample, 0]);
            let at = picture.iter().position(|&value| value == 255).unwrap();
            counts[at / 7 - 1][at % 7 - 1] += 1;
        }
        // 25 places, 200 each on average with standard deviation 13.9; five of them.
        assert!(counts.iter().flatten().all(|count| (130..270).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_flip_comes_as_often_as_it_should() {
        for (p, expected) in [(0.0, 0..1), (0.5, 850..1150), (1.0, 2000..2001)] {
            let flipped = (0..2000).filter(|&sample| {
                let mut picture = vec![1, 2];
                Augment::Flip(RandomHorizontalFlip { p }).apply(&mut picture, (1, 1, 2), 3, [0, sample, 0]);
                picture == [2, 1]
            });
            let count = flipped.count();
            assert!(expected.contains(&count), "{count} of 2000 at p = {p}");
        }
    }

    #[test]
    fn normalization_is_undone() {
        let normalize = Normalize { mean: vec![0.4914, 0.4822, 0.4465], std: vec![0.247, 0.2435, 0.2616] };
        let values: Vec<f32> = (0..3 * 256).map(|i| (i % 256) as f32 / 255.0).collect();
        let images = Tensor::from_vec(values, (1, 3, 16, 16), &Device::Cpu).unwrap();
        let normalized = normalize.apply(&images).unwrap();
        assert_eq!(normalized.flatten_all().unwrap().to_vec1::<f32>().unwrap(), normalize.tables().concat());
        let error = (normalize.invert(&normalized).unwrap() - images).unwrap().abs().unwrap().max_all().unwrap();
        assert!(error.to_scalar::<f32>().unwrap() < 1e-6);
    }

    #[test]
    fn settings_that_make_no_sense_are_errors() {
        let normalize = |mean: f32, std: f32| Normalize { mean: vec![mean], std: vec![std] }.check(1);
        assert!(normalize(0.0, 1.0).is_ok());
        for (mean, std) in [(0.0, 0.0), (0.0, -1.0), (f32::NAN, 1.0), (0.0, f32::INFINITY), (0.0, f32::NAN)] {
            assert!(matches!(normalize(mean, std), Err(DatasetError::Normalize { .. })), "{mean} {std}");
        }
        assert!(matches!(Normalize::default().check(1), Err(DatasetError::NormalizeChannels { means: 3, .. })));
        for p in [-0.1, 1.1, f64::NAN] {
            let error = Augment::from(RandomHorizontalFlip { p }).check((1, 2, 2));
            assert!(matches!(error, Err(DatasetError::Probability(_))), "{p}");
        }
        let error = Augment::from(RandomCrop { padding: 2 }).check((1, 2, 3));
        assert!(matches!(error, Err(DatasetError::Padding { padding: 2, height: 2, width: 3 })));
    }
}
