//! The graph of values in a pickle; values refer to each other by index.

/// The index of the empty sequence, which all empty tuples share.
pub(super) const EMPTY: u32 = 0;

/// A value in 8 bytes; an index points into one of the pickle's lists.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i32),
    Wide(u32),
    /// An integer beyond 64 bits, as its bytes.
    Big(u32),
    /// The same as decimal digits (protocols 0 and 1).
    Decimal(u32),
    Float(u32),
    /// Valid UTF-8.
    Text(u32),
    /// A string with escapes, whose value is not decoded.
    Escaped,
    Bytes(u32),
    Tuple(u32),
    List(u32),
    Set(u32),
    /// Keys and values alternate.
    Dict(u32),
    Global(u32),
    Object(u32),
    Persistent(u32),
}

/// Bytes of the pickle, validated once: one long string may be used very often.
#[derive(Clone, Copy, Debug)]
pub(super) enum Span<'a> {
    Ascii(&'a str),
    Text(&'a str),
    NotUtf8(&'a [u8]),
}

impl<'a> Span<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) if text.is_ascii() => Self::Ascii(text),
            Ok(text) => Self::Text(text),
            Err(_) => Self::NotUtf8(bytes),
        }
    }

    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Ascii(text) | Self::Text(text) => text.as_bytes(),
            Self::NotUtf8(bytes) => bytes,
        }
    }

    pub(super) fn text(self) -> Option<&'a str> {
        match self {
            Self::Ascii(text) | Self::Text(text) => Some(text),
            Self::NotUtf8(_) => None,
        }
    }
}

/// A recorded call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object {
    /// A function or class; rarely another value, such as a call's result.
    pub(super) function: Value,
    pub(super) arguments: Value,
    pub(super) state: Value,
    /// The keys and values set on the result.
    pub(super) entries: u32,
}

/// A pickle that has been read: a graph of values. A value may be part of several others, or of itself.
#[derive(Debug)]
pub struct Pickle<'a> {
    pub(super) root: Value,
    pub(super) length: usize,
    pub(super) wide: Vec<i64>,
    pub(super) floats: Vec<f64>,
    pub(super) spans: Vec<Span<'a>>,
    /// The first is [`EMPTY`].
    pub(super) sequences: Vec<Vec<Value>>,
    /// The spans of module and name.
    pub(super) globals: Vec<(u32, u32)>,
    pub(super) objects: Vec<Object>,
    pub(super) persistent: Vec<Value>,
}

impl<'a> Pickle<'a> {
    pub(super) fn span(&self, index: u32) -> Span<'a> {
        self.spans[index as usize]
    }

    pub(super) fn text(&self, index: u32) -> Option<&'a str> {
        self.span(index).text()
    }
}
