//! Arrays of NumPy inside a pickle, as in the python layout of CIFAR-10.
//!
//! An array is pickled as a call of `_reconstruct`, whose state holds the shape, the type and the bytes.
//! Source: `array_reduce` and `arraydescr_reduce` in NumPy's C sources.

use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::layout::{self, Layout};
use crate::pickle::Node;
use crate::{DType, Tensor};

/// What a pickle with arrays names.
pub const GLOBALS: &[(&str, &str)] = &[
    ("numpy.core.multiarray", "_reconstruct"),
    // Its name since NumPy 2.
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
];

/// An array: its bytes are borrowed where they lie in row-major order and little-endian.
///
/// ```
/// use pth::pickle::Pickle;
///
/// // Python 2: pickle.dumps(numpy.array([7, 8], dtype="u1"), 2)
/// let bytes = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03(K\x01\
///     K\x02\x85cnumpy\ndtype\nq\x04U\x02u1K\x00K\x01\x87Rq\x05(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\
///     \x89U\x02\x07\x08tb.";
/// let pickle = Pickle::read(bytes, pth::numpy::GLOBALS)?;
/// let array = pth::numpy::array(pickle.root(), "data")?;
/// assert_eq!((array.shape(), array.data()), (&[2][..], &[7, 8][..]));
/// # Ok::<(), pth::Error>(())
/// ```
///
/// # Errors
/// Where the value is no array, or one of another type than [`DType`] has; `name` is for the message.
pub fn array<'a>(node: Node<'_, 'a>, name: &str) -> Result<Tensor<'a>> {
    let wrong = |what: &'static str, found: String, expected: &'static str| Error::Description {
        tensor: name.to_string(),
        what,
        found,
        expected,
    };
    let state = node.call().filter(|call| call.name == "_reconstruct").map(|call| call.state);
    let state = state.ok_or_else(|| wrong("the value", node.kind().into(), "an array of NumPy"))?;
    let [_, shape, dtype, column_major, data] =
        state.tuple().ok_or_else(|| wrong("the array's state", state.kind().into(), "a tuple of 5"))?;
    let sizes = shape.items().filter(|sizes| sizes.len() <= layout::MOST_DIMENSIONS);
    let shape: Option<Vec<usize>> = sizes.and_then(|sizes| sizes.map(|size| size.as_usize()).collect());
    let shape = shape.ok_or_else(|| wrong("the shape", "something else".into(), "a tuple of at most 64 sizes"))?;
    let call = dtype.call().filter(|call| call.name == "dtype");
    let code = call.and_then(|call| call.arguments.items()?.next()?.as_text()).unwrap_or("");
    let order = call.and_then(|call| call.state.items()?.nth(1)?.as_text()).unwrap_or("");
    let dtype = match code {
        "f2" => DType::F16,
        "f4" => DType::F32,
        "f8" => DType::F64,
        "i1" => DType::I8,
        "i2" => DType::I16,
        "i4" => DType::I32,
        "i8" => DType::I64,
        "u1" => DType::U8,
        "b1" => DType::Bool,
        _ => {
            return Err(wrong("the type", crate::error::excerpt(code.as_bytes()), "one of f2 f4 f8 i1 i2 i4 i8 u1 b1"));
        }
    };
    let data = data.as_bytes().ok_or_else(|| wrong("the data", data.kind().into(), "bytes"))?;
    if layout::byte_count(dtype, &shape) != Some(data.len()) {
        return Err(Error::DataLength { dtype, shape, found: data.len() });
    }
    let (mut strides, mut step) = (vec![0; shape.len()], 1usize);
    let column_major = column_major.as_bool() == Some(true);
    for place in 0..shape.len() {
        let dimension = if column_major { place } else { shape.len() - 1 - place };
        strides[dimension] = step;
        // No overflow matters: an array with a size of 0 has no elements to step to.
        step = step.saturating_mul(shape[dimension]);
    }
    let layout = Layout { dtype, shape: &shape, strides: &strides, offset: 0, big_endian: order == ">" };
    // A copy has as many bytes as the array has in the file.
    let data = layout.gather(name.as_bytes(), data, &mut Budget::new(data.len()))?;
    Tensor::new(dtype, shape, data)
}
