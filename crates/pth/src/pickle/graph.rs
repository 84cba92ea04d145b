//! What a pickle holds: values that refer to each other by their places in the pickle's lists.

/// The sequence that all empty tuples share.
pub(super) const EMPTY: u32 = 0;

/// A value, in 8 bytes: what does not fit lies in one of the pickle's lists.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i32),
    Wide(u32),
    /// An integer beyond 64 bits, as its bytes.
    Big(u32),
    /// The same as its decimal digits, which protocols 0 and 1 write.
    Decimal(u32),
    Float(u32),
    /// Checked to be UTF-8.
    Text(u32),
    /// A text in which characters are written as escapes.
    Escaped,
    Bytes(u32),
    Tuple(u32),
    List(u32),
    Set(u32),
    /// Keys and values in turn.
    Dict(u32),
    Global(u32),
    Object(u32),
    Persistent(u32),
}

/// A call that was not made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object {
    /// A class or function; seldom another value, as what a call would give.
    pub(super) function: Value,
    pub(super) arguments: Value,
    pub(super) state: Value,
    /// Keys and values that were set on it.
    pub(super) entries: u32,
}

/// A pickle that has been read: a graph of values, in which one value may be part of several others, or of itself.
#[derive(Debug)]
pub struct Pickle<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) root: Value,
    pub(super) length: usize,
    pub(super) wide: Vec<i64>,
    pub(super) floats: Vec<f64>,
    /// Start and length in `bytes`.
    pub(super) spans: Vec<(u32, u32)>,
    /// The first stands for all empty tuples.
    pub(super) sequences: Vec<Vec<Value>>,
    /// Spans of module and name.
    pub(super) globals: Vec<(u32, u32)>,
    pub(super) objects: Vec<Object>,
    pub(super) persistent: Vec<Value>,
}

impl<'a> Pickle<'a> {
    pub(super) fn span(&self, index: u32) -> &'a [u8] {
        let (start, length) = self.spans[index as usize];
        &self.bytes[start as usize..][..length as usize]
    }

    pub(super) fn text(&self, index: u32) -> Option<&'a str> {
        std::str::from_utf8(self.span(index)).ok()
    }
}
