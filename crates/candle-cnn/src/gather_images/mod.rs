//! Makes batches from a stored set of images: gathered, mirrored, shifted and normalized in one pass.

use candle_core::{DType, Device, Result, Tensor};

#[cfg(feature = "cuda")]
mod cuda;

use crate::check;
use crate::error::Error;

const NAME: &str = "gather_images";

/// Bits of the second number of a row of places.
const MIRRORED: i64 = 1;
const REFLECTED: i64 = 2;

/// Values that a byte can have.
const BYTES: usize = 256;

/// An image of a stored set and how it is augmented: optionally mirrored left to right, then shifted, with black (the
/// byte 0) or its reflection outside it.
///
/// ```
/// use candle_cnn::ops::Placement;
/// let flipped = Placement::new(7).flip();
/// assert_eq!(flipped, Placement { mirrored: true, ..Placement::new(7) });
/// // Moving and then mirroring is mirroring and then moving the other way.
/// assert_eq!(Placement { right: 2, ..Placement::new(7) }.flip(), Placement { right: -2, ..flipped });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Placement {
    /// The image's index in the set.
    pub index: usize,
    /// Whether it is mirrored left to right.
    pub mirrored: bool,
    /// The row offset at which it is read (negative: up).
    pub down: i32,
    /// The column offset at which it is read (negative: left).
    pub right: i32,
    /// Whether what lies outside is its reflection, as in `torch.nn.functional.pad(mode="reflect")`, instead of black.
    pub reflected: bool,
}

/// The coordinate, below `size`, of which the pixel at `at` is the reflection, if it lies outside: −1 reflects 1, and
/// `size` reflects `size` − 2.
///
/// ```
/// let row: Vec<usize> = (-3..6).map(|at| candle_cnn::ops::reflected(at, 3)).collect();
/// assert_eq!(row, [1, 2, 1, 0, 1, 2, 1, 0, 1]);
/// ```
pub fn reflected(at: isize, size: usize) -> usize {
    let period = 2 * size.saturating_sub(1).max(1);
    let place = at.unsigned_abs() % period;
    place.min(period - place).min(size.saturating_sub(1))
}

impl Placement {
    /// The image with this `index`, unchanged.
    pub fn new(index: usize) -> Self {
        Self { index, mirrored: false, down: 0, right: 0, reflected: false }
    }

    /// The same, mirrored.
    pub fn flip(self) -> Self {
        Self { mirrored: !self.mirrored, right: -self.right, ..self }
    }

    /// Placements as [`gather_images`] takes them, `i64` `[B, 4]` on `device`.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn tensor(placements: &[Self], device: &Device) -> Result<Tensor> {
        let flags = |p: &Self| i64::from(p.mirrored) * MIRRORED + i64::from(p.reflected) * REFLECTED;
        let row = |p: &Self| [p.index as i64, flags(p), p.down.into(), p.right.into()];
        let rows: Vec<i64> = placements.iter().flat_map(row).collect();
        Tensor::from_vec(rows, (placements.len(), 4), device)
    }
}

/// A batch `[B, C, H, W]` in `f32` from stored `pictures` (`u8`, `[N, C, H, W]`): what `table` (`f32`, `[C, 256]`)
/// makes of each byte, for the pictures and changes that `places` (`i64`, `[B, 4]`, see [`Placement::tensor`]) names.
///
/// One launch on an NVIDIA GPU, so that a set stored there is batched without the host. Not differentiable.
///
/// ```
/// use candle_cnn::ops::{Placement, gather_images};
/// use candle_core::{Device, Tensor};
/// let pictures = Tensor::new(&[[[[10u8, 20, 30]]], [[[40, 50, 60]]]], &Device::Cpu)?; // Two of 1 × 3 pixels.
/// let table = Tensor::arange(0f32, 256., &Device::Cpu)?.reshape((1, 256))?;
/// let moved = Placement { right: 1, ..Placement::new(0) };
/// let places = Placement::tensor(&[moved, Placement::new(1).flip()], &Device::Cpu)?;
/// let batch = gather_images(&pictures, &places, &table)?;
/// assert_eq!(batch.flatten_all()?.to_vec1::<f32>()?, [20., 30., 0., 60., 50., 40.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If shapes, types or devices don't match, or an index is out of range. On a GPU such an image is NaN instead, because
/// an error would have to wait for the GPU.
pub fn gather_images(pictures: &Tensor, places: &Tensor, table: &Tensor) -> Result<Tensor> {
    let [_, c, _, _] = check::dims4(NAME, "the pictures", pictures)?;
    let typed = |argument, found: &Tensor, wanted: DType| match found.dtype() == wanted {
        true => Ok(()),
        false => {
            let wanted = format!("{wanted:?}");
            Err(candle_core::Error::from(Error::DType { operation: NAME, argument, found: found.dtype(), wanted }))
        }
    };
    typed("the pictures", pictures, DType::U8)?;
    typed("the places", places, DType::I64)?;
    typed("the table", table, DType::F32)?;
    if !matches!(*places.dims(), [1..=usize::MAX, 4]) {
        return Err(check::shape(NAME, "the places", places, "[B, 4], B at least 1"));
    }
    if table.dims() != [c, BYTES] {
        return Err(check::shape(NAME, "the table", table, format!("[{c}, {BYTES}]")));
    }
    for (argument, found) in [("the places", places), ("the table", table)] {
        check::same_device(NAME, argument, found, pictures)?;
    }
    match pictures.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => cuda::gather_images(pictures, places, table),
        device => on_cpu(pictures, places, table)?.to_device(device),
    }
}

fn on_cpu(pictures: &Tensor, places: &Tensor, table: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = pictures.dims4()?;
    let (places, table) = (places.to_vec2::<i64>()?, table.to_vec2::<f32>()?);
    let mut values = Vec::with_capacity(places.len() * c * h * w);
    for (sample, place) in places.iter().enumerate() {
        let [index, flags, down, right] = place[..] else { continue };
        let (mirror, reflect) = (flags & MIRRORED != 0, flags & REFLECTED != 0);
        let Some(index) = usize::try_from(index).ok().filter(|&index| index < n) else {
            return Err(Error::NoPicture { sample, index, stored: n }.into());
        };
        let picture = pictures.get(index)?.flatten_all()?.to_vec1::<u8>()?;
        let source = |at: usize, by: i64, size: usize| {
            let at = at as i64 + by;
            if reflect {
                return Some(reflected(at as isize, size));
            }
            usize::try_from(at).ok().filter(|&source| source < size)
        };
        for (plane, table) in picture.chunks_exact(h * w).zip(&table) {
            for y in 0..h {
                let row = source(y, down, h).map(|y| &plane[y * w..(y + 1) * w]);
                values.extend((0..w).map(|x| {
                    let column = source(x, right, w).map(|x| if mirror { w - 1 - x } else { x });
                    let byte = row.zip(column).map_or(0, |(row, x)| row[x]);
                    table[usize::from(byte)]
                }));
            }
        }
    }
    Tensor::from_vec(values, (places.len(), c, h, w), &Device::Cpu)
}
