//! Bytes with a shape and an element type.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layout;

/// A tensor's elements as contiguous, row-major, little-endian bytes.
///
/// ```
/// use pth::{DType, Tensor};
///
/// let tensor = Tensor::new(DType::I32, vec![2], &[1, 0, 0, 0, 255, 255, 255, 255][..])?;
/// assert_eq!((tensor.shape(), tensor.data().len()), (&[2][..], 8));
/// assert!(Tensor::new(DType::I32, vec![3], &[0; 8][..]).is_err());
/// # Ok::<(), pth::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor<'a> {
    dtype: DType,
    shape: Vec<usize>,
    data: Bytes<'a>,
}

/// Bytes, shared between clones.
#[derive(Clone, Debug, Eq)]
enum Bytes<'a> {
    Borrowed(&'a [u8]),
    Owned(Arc<Vec<u8>>),
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl PartialEq for Bytes<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<'a> Tensor<'a> {
    /// A tensor from its bytes, borrowed or owned. A scalar (empty `shape`) has one element.
    ///
    /// # Errors
    /// [`Error::DataLength`] if the number of bytes does not match shape and type.
    pub fn new(dtype: DType, shape: Vec<usize>, data: impl Into<Cow<'a, [u8]>>) -> Result<Self> {
        let data = match data.into() {
            Cow::Borrowed(bytes) => Bytes::Borrowed(bytes),
            Cow::Owned(bytes) => Bytes::Owned(Arc::new(bytes)),
        };
        if layout::byte_count(dtype, &shape) != Some(data.len()) {
            return Err(Error::DataLength { dtype, shape, found: data.len() });
        }
        Ok(Self { dtype, shape, data })
    }

    /// A tensor of 32-bit floats.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Result<Tensor<'static>> {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::new(DType::F32, shape.to_vec(), data)
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The size of each dimension; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements' bytes. Tensors read from the same view of the same storage share one address.
    pub fn data(&self) -> &[u8] {
        &self.data
    }
}
