//! NumPy arrays and scalars in a pickle, as in CIFAR-10's Python layout.
//!
//! An array is pickled as a call to `_reconstruct` whose state holds shape, type and bytes, or in protocol 5 as a call to
//! `_frombuffer`; a scalar is a call to `scalar`. Source: `array_reduce`, `array_reduce_ex_picklebuffer`,
//! `arraydescr_reduce` and `gentype_reduce` in NumPy's C sources.

use std::borrow::Cow;

use crate::budget::Budget;
use crate::dtype::DType;
use crate::error::{Error, Result, excerpt};
use crate::layout::{self, Layout};
use crate::pickle::Node;
use crate::tensor::Tensor;

/// The NumPy array `node`. Row-major little-endian data is borrowed, anything else copied.
///
/// ```
/// use pth::pickle::Pickle;
///
/// // Python 2: pickle.dumps(numpy.array([7, 8], dtype="u1"), 2)
/// let bytes = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03(K\x01\
///     K\x02\x85cnumpy\ndtype\nq\x04U\x02u1K\x00K\x01\x87Rq\x05(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\
///     \x89U\x02\x07\x08tb.";
/// let pickle = Pickle::read(bytes)?;
/// let array = pth::numpy::array(pickle.root(), "data")?;
/// assert_eq!((array.shape(), array.data()), (&[2][..], &[7, 8][..]));
/// # Ok::<(), pth::Error>(())
/// ```
///
/// # Errors
/// [`Error::Description`] or [`Error::DataLength`] if the value is not an array of a [`DType`]; `name` appears in the
/// message.
pub fn array<'a>(node: Node<'_, 'a>, name: &str) -> Result<Tensor<'a>> {
    let wrong = |what: &'static str, found: String, expected: &'static str| Error::Description {
        tensor: name.to_string(),
        what,
        found,
        expected,
    };
    let parts = match node.call().filter(|call| call.module.starts_with("numpy")) {
        Some(call) if call.name == "_reconstruct" => {
            let state = call.state;
            let [_, shape, dtype, column_major, data] =
                state.tuple().ok_or_else(|| wrong("the array's state", state.describe(), "a tuple of 5"))?;
            Some((shape, dtype, column_major.as_bool() == Some(true), data))
        }
        Some(call) if call.name == "_frombuffer" => {
            let [data, dtype, shape, order] = call
                .arguments
                .tuple()
                .ok_or_else(|| wrong("the array's description", call.arguments.describe(), "a tuple of 4"))?;
            Some((shape, dtype, order.as_text() == Some("F"), data))
        }
        _ => None,
    };
    let (shape, dtype, column_major, data) =
        parts.ok_or_else(|| wrong("the value", node.describe(), "a NumPy array"))?;
    let sizes = shape.items().filter(|sizes| sizes.len() <= layout::MOST_DIMENSIONS);
    let shape: Option<Vec<usize>> = sizes.and_then(|sizes| sizes.map(|size| size.as_usize()).collect());
    let shape = shape.ok_or_else(|| wrong("the shape", "something else".into(), "a tuple of at most 64 sizes"))?;
    let (code, big_endian) = type_code(dtype).unwrap_or_default();
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
        _ => return Err(wrong("the type", excerpt(code.as_bytes()), "one of f2 f4 f8 i1 i2 i4 i8 u1 b1")),
    };
    let data = bytes(data).ok_or_else(|| wrong("the data", data.describe(), "bytes"))?;
    if layout::byte_count(dtype, &shape) != Some(data.len()) {
        return Err(Error::DataLength { dtype, shape, found: data.len() });
    }
    let (mut strides, mut step) = (vec![0; shape.len()], 1usize);
    for place in 0..shape.len() {
        let dimension = if column_major { place } else { shape.len() - 1 - place };
        strides[dimension] = step;
        // Overflow is harmless: an array with a size of 0 has no elements to reach.
        step = step.saturating_mul(shape[dimension]);
    }
    let layout = Layout { dtype, shape: &shape, strides: &strides, offset: 0, big_endian };
    // A copy takes as many bytes as the array has in the file.
    let mut budget = Budget::new(data.len());
    let data = match data {
        Cow::Borrowed(data) => layout.gather(name.as_bytes(), data, &mut budget)?,
        Cow::Owned(data) => Cow::Owned(layout.gather(name.as_bytes(), &data, &mut budget)?.into_owned()),
    };
    Tensor::new(dtype, shape, data)
}

/// An integer: Python's own, or a NumPy integer of at most 64 bits. `None` for anything else.
///
/// ```
/// use pth::pickle::Pickle;
///
/// // Python: pickle.dumps(numpy.int64(6), 4)
/// let bytes = b"\x80\x04\x8c\x16numpy._core.multiarray\x8c\x06scalar\x93\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02i8\x89\x88\
///     \x87R(K\x03\x8c\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbC\x08\x06\x00\x00\x00\x00\x00\x00\x00\x86R.";
/// assert_eq!(pth::numpy::integer(Pickle::read(bytes)?.root()), Some(6));
/// # Ok::<(), pth::Error>(())
/// ```
pub fn integer(node: Node) -> Option<i64> {
    let Some(call) = node.call() else { return node.as_i64() };
    let [dtype, data] = call.arguments.tuple().filter(|_| call.module.starts_with("numpy") && call.name == "scalar")?;
    let (code, big_endian) = type_code(dtype)?;
    let mut data = bytes(data)?.into_owned();
    let (kind, size) = code.split_at_checked(1)?;
    if !matches!(kind, "i" | "u") || size.parse() != Ok(data.len()) || !matches!(data.len(), 1..=8) {
        return None;
    }
    if big_endian {
        data.reverse();
    }
    let negative = kind == "i" && data.last().is_some_and(|&byte| byte >= 0x80);
    let mut whole = [if negative { 0xff } else { 0 }; 8];
    whole[..data.len()].copy_from_slice(&data);
    match kind {
        "u" => i64::try_from(u64::from_le_bytes(whole)).ok(),
        _ => Some(i64::from_le_bytes(whole)),
    }
}

/// A dtype's code, such as `u1`, and whether it is big-endian.
fn type_code<'a>(dtype: Node<'_, 'a>) -> Option<(&'a str, bool)> {
    let call = dtype.call().filter(|call| call.module == "numpy" && call.name == "dtype")?;
    let code = call.arguments.items()?.next()?.as_text()?;
    let order = call.state.items().and_then(|mut state| state.nth(1)?.as_text());
    Some((code, order == Some(">")))
}

/// Bytes, also as Python 3 writes them in protocols without a bytes type: a string with one character per byte.
fn bytes<'a>(node: Node<'_, 'a>) -> Option<Cow<'a, [u8]>> {
    if let Some(bytes) = node.as_bytes() {
        return Some(Cow::Borrowed(bytes));
    }
    let bytes = node.latin1()?.chars().map(|character| u8::try_from(character).ok());
    Some(Cow::Owned(bytes.collect::<Option<_>>()?))
}
