//! Pickles, read without executing anything.
//!
//! A pickle is a program for a small stack machine. Some of its instructions call Python functions, and this is what
//! makes foreign pickles dangerous. Here a call builds an [`object`](Node::object): the function's name and its
//! arguments, for the caller to look at. Names that are not on the caller's list are refused all the same, so that a
//! file with something else inside says so.
//!
//! ```
//! use pth::pickle::Pickle;
//!
//! // Python: pickle.dumps({"labels": [6, 9]}, protocol=2)
//! let bytes = b"\x80\x02}q\x00X\x06\x00\x00\x00labelsq\x01]q\x02(K\x06K\x09es.";
//! let pickle = Pickle::read(bytes, &[])?;
//! let labels = pickle.root().get("labels").unwrap();
//! assert_eq!(labels.items().unwrap().filter_map(|label| label.as_i64()).collect::<Vec<_>>(), [6, 9]);
//! # Ok::<(), pth::Error>(())
//! ```
//!
//! Source: the comments of CPython's `pickletools.py`. Protocols 2 to 5 are read, without sets, big integers' values
//! and buffers outside of the pickle; the text instructions of protocol 0 are not.

mod machine;

use crate::budget::Budget;
use crate::error::Result;

/// A value, in 8 bytes: what does not fit lies in one of the pickle's lists.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i32),
    Wide(u32),
    /// An integer beyond 64 bits, as its bytes.
    Big(u32),
    Float(u32),
    /// Checked to be UTF-8.
    Text(u32),
    Bytes(u32),
    Tuple(u32),
    List(u32),
    /// Keys and values in turn.
    Dict(u32),
    Global(u32),
    Object(u32),
    Persistent(u32),
}

/// A call that was not made.
#[derive(Clone, Copy, Debug)]
struct Object {
    function: u32,
    arguments: Value,
    state: Value,
    /// Keys and values that were set on it.
    entries: u32,
}

/// A pickle that has been read: a graph of values, in which one value may be part of several others, or of itself.
#[derive(Debug)]
pub struct Pickle<'a> {
    bytes: &'a [u8],
    root: Value,
    length: usize,
    wide: Vec<i64>,
    floats: Vec<f64>,
    /// Start and length in `bytes`.
    spans: Vec<(u32, u32)>,
    /// The first stands for all empty tuples.
    sequences: Vec<Vec<Value>>,
    /// Spans of module and name.
    globals: Vec<(u32, u32)>,
    objects: Vec<Object>,
    persistent: Vec<Value>,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle at the start of `bytes`. It may name the classes and functions `allowed`, pairs of module and
    /// name.
    ///
    /// ```
    /// use pth::{Error, pickle::Pickle};
    ///
    /// // Python: os.system("…"), if it were executed
    /// let bytes = b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.";
    /// assert!(matches!(Pickle::read(bytes, &[]), Err(Error::Global { .. })));
    /// ```
    ///
    /// # Errors
    /// Where it is cut or damaged, has an instruction that is not known here or a name that is not allowed, or would
    /// take more memory than twice the length of `bytes` and [`MEMORY_FLOOR`](crate::MEMORY_FLOOR).
    pub fn read(bytes: &'a [u8], allowed: &[(&str, &str)]) -> Result<Self> {
        Self::read_within(bytes, allowed, &mut Budget::for_length(bytes.len()))
    }

    pub(crate) fn read_within(bytes: &'a [u8], allowed: &[(&str, &str)], budget: &mut Budget) -> Result<Self> {
        machine::Machine::new(bytes, allowed, budget)?.run()
    }

    /// The value that the pickle is of.
    pub fn root(&self) -> Node<'_, 'a> {
        self.node(self.root)
    }

    /// The pickle's length: what follows in the bytes does not belong to it.
    ///
    /// ```
    /// assert_eq!(pth::pickle::Pickle::read(b"\x80\x02N.more", &[])?.length(), 4);
    /// # Ok::<(), pth::Error>(())
    /// ```
    pub fn length(&self) -> usize {
        self.length
    }

    /// All references to things outside of the pickle, in the order in which they stand there.
    pub(crate) fn persistent_ids(&self) -> impl Iterator<Item = Node<'_, 'a>> {
        self.persistent.iter().map(|&value| self.node(value))
    }

    fn node(&self, value: Value) -> Node<'_, 'a> {
        Node { pickle: self, value }
    }

    fn span(&self, index: u32) -> &'a [u8] {
        let (start, length) = self.spans[index as usize];
        &self.bytes[start as usize..][..length as usize]
    }

    fn text(&self, index: u32) -> Option<&'a str> {
        std::str::from_utf8(self.span(index)).ok()
    }
}

/// A value in a [`Pickle`]. Each `as_…` answers None for a value of another kind.
#[derive(Clone, Copy)]
pub struct Node<'p, 'a> {
    pickle: &'p Pickle<'a>,
    value: Value,
}

/// A call in a pickle, not made: a function or class by its name, and what it would get.
#[derive(Clone, Copy, Debug)]
pub struct Call<'p, 'a> {
    /// The Python module, as `collections`.
    pub module: &'a str,
    /// The function's or class's name in it, as `OrderedDict`.
    pub name: &'a str,
    /// The arguments: a tuple.
    pub arguments: Node<'p, 'a>,
    /// What its `__setstate__` would get; Python's None where there is nothing.
    pub state: Node<'p, 'a>,
}

impl<'p, 'a> Node<'p, 'a> {
    /// What it is, for messages: `"a list"`.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::None => "None",
            Value::Bool(_) => "a bool",
            Value::Int(_) | Value::Wide(_) | Value::Big(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Text(_) => "a text",
            Value::Bytes(_) => "a string of bytes",
            Value::Tuple(_) => "a tuple",
            Value::List(_) => "a list",
            Value::Dict(_) => "a dict",
            Value::Global(_) => "a class or function",
            Value::Object(_) if self.entries().is_some() => "a dict",
            Value::Object(_) => match self.call().map_or("", |call| call.name) {
                name if name.starts_with("_rebuild_") => "a tensor",
                _ => "an object",
            },
            Value::Persistent(_) => "a storage",
        }
    }

    /// Whether it is Python's None.
    pub fn is_none(&self) -> bool {
        matches!(self.value, Value::None)
    }

    /// Whether a bool is true.
    pub fn as_bool(&self) -> Option<bool> {
        match self.value {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// An integer of at most 64 bits.
    pub fn as_i64(&self) -> Option<i64> {
        match self.value {
            Value::Int(value) => Some(value.into()),
            Value::Wide(index) => self.pickle.wide.get(index as usize).copied(),
            _ => None,
        }
    }

    /// An integer that counts something.
    pub fn as_usize(&self) -> Option<usize> {
        self.as_i64().and_then(|value| usize::try_from(value).ok())
    }

    /// A float.
    pub fn as_f64(&self) -> Option<f64> {
        match self.value {
            Value::Float(index) => self.pickle.floats.get(index as usize).copied(),
            _ => None,
        }
    }

    /// A text, or bytes that are UTF-8 (Python 2 made no difference).
    pub fn as_text(&self) -> Option<&'a str> {
        match self.value {
            Value::Text(index) | Value::Bytes(index) => self.pickle.text(index),
            _ => None,
        }
    }

    /// Bytes, or a text's UTF-8.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match self.value {
            Value::Text(index) | Value::Bytes(index) => Some(self.pickle.span(index)),
            _ => None,
        }
    }

    /// The bytes of an integer beyond 64 bits: little-endian, in two's complement.
    pub fn as_big_integer(&self) -> Option<&'a [u8]> {
        match self.value {
            Value::Big(index) => Some(self.pickle.span(index)),
            _ => None,
        }
    }

    /// The items of a tuple or a list.
    pub fn items(&self) -> Option<impl ExactSizeIterator<Item = Node<'p, 'a>> + use<'p, 'a>> {
        let pickle = self.pickle;
        match self.value {
            Value::Tuple(index) | Value::List(index) => {
                Some(pickle.sequences[index as usize].iter().map(move |&value| pickle.node(value)))
            }
            _ => None,
        }
    }

    /// The items of a tuple of exactly `N`.
    pub(crate) fn tuple<const N: usize>(&self) -> Option<[Node<'p, 'a>; N]> {
        let Value::Tuple(index) = self.value else { return None };
        let items: &[Value; N] = self.pickle.sequences[index as usize].as_slice().try_into().ok()?;
        Some(items.map(|value| self.pickle.node(value)))
    }

    /// The keys and values of a dict or a `collections.OrderedDict`, in the order in which they were set; a key that
    /// was set twice comes twice.
    pub fn entries(&self) -> Option<impl ExactSizeIterator<Item = (Node<'p, 'a>, Node<'p, 'a>)> + use<'p, 'a>> {
        let pickle = self.pickle;
        let index = match self.value {
            Value::Dict(index) => index,
            Value::Object(_) => {
                let call = self.call()?;
                let ordered = call.module == "collections" && call.name == "OrderedDict";
                if !ordered || call.arguments.items().is_none_or(|arguments| arguments.len() > 0) {
                    return None;
                }
                self.raw_object()?.entries
            }
            _ => return None,
        };
        let values = pickle.sequences[index as usize].chunks_exact(2);
        Some(values.map(move |pair| (pickle.node(pair[0]), pickle.node(pair[1]))))
    }

    /// The value of a dict's key. It is searched for from the end, where Python's last assignment is.
    pub fn get(&self, key: &str) -> Option<Node<'p, 'a>> {
        let pairs = self.entries()?.filter(|(found, _)| found.as_bytes() == Some(key.as_bytes()));
        pairs.last().map(|(_, value)| value)
    }

    /// A call.
    pub fn call(&self) -> Option<Call<'p, 'a>> {
        let object = self.raw_object()?;
        let (module, name) = self.pickle.globals[object.function as usize];
        Some(Call {
            module: self.pickle.text(module)?,
            name: self.pickle.text(name)?,
            arguments: self.pickle.node(object.arguments),
            state: self.pickle.node(object.state),
        })
    }

    fn raw_object(&self) -> Option<&'p Object> {
        match self.value {
            Value::Object(index) => self.pickle.objects.get(index as usize),
            _ => None,
        }
    }

    /// A class or function by its module and name.
    pub fn global(&self) -> Option<(&'a str, &'a str)> {
        let Value::Global(index) = self.value else { return None };
        let (module, name) = self.pickle.globals[index as usize];
        Some((self.pickle.text(module)?, self.pickle.text(name)?))
    }

    /// The id of something outside of the pickle.
    pub fn persistent_id(&self) -> Option<Node<'p, 'a>> {
        match self.value {
            Value::Persistent(index) => Some(self.pickle.node(self.pickle.persistent[index as usize])),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Node<'_, '_> {
    /// The kind only: the content may be without end.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}
