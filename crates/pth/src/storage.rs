//! How a pickle names a storage, the memory that one or more tensors share:
//! `('storage', torch.FloatStorage, '0', 'cpu', 6)`.

use crate::dtype::DType;
use crate::error::{Error, Result, excerpt};
use crate::pickle::Node;

/// PyTorch's keys are small integers, with a few more digits in the older format.
const LONGEST_KEY: usize = 255;

/// Storage classes of types that [`DType`] lacks: class, type name, bytes per element. In the older format these have to
/// be skipped.
const OTHER_CLASSES: [(&str, &str, usize); 8] = [
    ("ComplexFloatStorage", "complex64", 8),
    ("ComplexDoubleStorage", "complex128", 16),
    ("QInt8Storage", "qint8", 1),
    ("QUInt8Storage", "quint8", 1),
    ("QInt32Storage", "qint32", 4),
    ("QUInt4x2Storage", "quint4x2", 1),
    ("QUInt2x4Storage", "quint2x4", 1),
    ("UntypedStorage", "untyped", 1),
];

/// The type of a storage's elements.
#[derive(Clone, Copy)]
pub(crate) enum Elements {
    Of(DType),
    /// An unsupported type: its name and bytes per element.
    Other(&'static str, usize),
}

impl Elements {
    fn of_class(name: &str) -> Option<Self> {
        let other = || OTHER_CLASSES.iter().find(|(class, ..)| *class == name);
        DType::from_storage_class(name)
            .map(Self::Of)
            .or_else(|| other().map(|&(_, name, size)| Self::Other(name, size)))
    }

    /// Bytes per element.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Of(dtype) => dtype.size(),
            Self::Other(_, size) => size,
        }
    }
}

/// A reference to a storage.
pub(crate) struct StorageId<'a> {
    pub(crate) elements: Elements,
    pub(crate) key: &'a str,
    pub(crate) count: usize,
    /// The part of it that is the tensor's own storage: first element and count. Written before PyTorch 0.4.
    pub(crate) part: Option<(usize, usize)>,
}

impl<'a> StorageId<'a> {
    /// # Errors
    /// [`Error::Description`] if `id` is something else.
    pub(crate) fn read(id: Node<'_, 'a>) -> Result<Self> {
        let mut fields = id.items().into_iter().flatten();
        let mut next = || fields.next();
        let (kind, class, key, _device, count, view) = (next(), next(), next(), next(), next(), next());
        let wrong = |found: String| Error::Description {
            tensor: "a storage".into(),
            what: "its id",
            found,
            expected: "a tuple ('storage', class, key, device, number of elements)",
        };
        if kind.and_then(|kind| kind.as_text()) != Some("storage") {
            return Err(wrong(id.describe()));
        }
        let class = class.and_then(|class| class.global());
        let class = class.filter(|(module, _)| matches!(*module, "torch" | "torch.storage"));
        let elements = class.and_then(|(_, name)| Elements::of_class(name));
        let key = key.and_then(|key| key.as_text()).filter(|key| key.len() <= LONGEST_KEY);
        let count = count.and_then(|count| count.as_usize());
        let (Some(elements), Some(key), Some(count)) = (elements, key, count) else {
            return Err(wrong("a tuple with another class, key or length".into()));
        };
        let part = match view.filter(|view| !view.is_none()) {
            None => None,
            Some(view) => {
                let [_, first, count] = view.tuple().ok_or_else(|| wrong(view.describe()))?;
                Some(first.as_usize().zip(count.as_usize()).ok_or_else(|| wrong(view.describe()))?)
            }
        };
        Ok(Self { elements, key, count, part })
    }

    /// Whether this is a storage's id. In the older format, a pickled module's classes have ids too.
    pub(crate) fn is_one(id: Node<'_, '_>) -> bool {
        let kind = id.items().and_then(|mut fields| fields.next());
        kind.and_then(|kind| kind.as_text()) == Some("storage")
    }

    /// The tensor's storage, given the `bytes` of the record with its key.
    ///
    /// # Errors
    /// [`Error::StorageLength`] if the number of bytes is wrong or the part lies outside them.
    pub(crate) fn of<'b>(&self, dtype: DType, bytes: &'b [u8]) -> Result<&'b [u8]> {
        let size = dtype.size();
        let wrong = || Error::StorageLength {
            key: excerpt(self.key.as_bytes()),
            elements: self.count,
            dtype,
            found: bytes.len(),
        };
        if Some(bytes.len()) != self.count.checked_mul(size) {
            return Err(wrong());
        }
        let Some((first, count)) = self.part else { return Ok(bytes) };
        let end = first.checked_add(count).filter(|&end| end <= self.count).ok_or_else(wrong)?;
        Ok(&bytes[first * size..end * size])
    }
}
