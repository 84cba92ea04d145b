//! Reads pickles without executing anything.
//!
//! A pickle is a program for a small stack machine. Some of its instructions call Python functions, which is what makes
//! untrusted pickles dangerous. Here a call only builds a [`Call`], the function's name and its arguments, for you to
//! inspect or ignore.
//!
//! ```
//! use pth::pickle::Pickle;
//!
//! // Python: pickle.dumps({"labels": [6, 9]}, protocol=2)
//! let bytes = b"\x80\x02}q\x00X\x06\x00\x00\x00labelsq\x01]q\x02(K\x06K\x09es.";
//! let pickle = Pickle::read(bytes)?;
//! let labels = pickle.root().get("labels").unwrap();
//! assert_eq!(labels.items().unwrap().filter_map(|label| label.as_i64()).collect::<Vec<_>>(), [6, 9]);
//! # Ok::<(), pth::Error>(())
//! ```
//!
//! All protocols are read, 0 to 5. Not supported are the values of integers beyond 64 bits, strings with escapes in
//! protocol 0, out-of-band buffers, and `copyreg` extension codes. Source: the comments in CPython's `pickletools.py`.

mod graph;
mod machine;

use crate::budget::Budget;
use crate::error::{Result, excerpt};
use graph::{EMPTY, Object, Span, Value};

pub use graph::Pickle;

impl<'a> Pickle<'a> {
    /// Reads the pickle at the start of `bytes`.
    ///
    /// ```
    /// // In Python this would run os.system("ls").
    /// let bytes = b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.";
    /// let pickle = pth::pickle::Pickle::read(bytes)?;
    /// assert_eq!(pickle.root().describe(), "an object of os.system");
    /// # Ok::<(), pth::Error>(())
    /// ```
    ///
    /// # Errors
    /// If it is truncated or damaged, has an unsupported instruction, or would need more memory than twice the length of
    /// `bytes` plus [`MEMORY_FLOOR`](crate::MEMORY_FLOOR).
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        Self::read_within(bytes, &mut Budget::for_length(bytes.len()))
    }

    pub(crate) fn read_within(bytes: &'a [u8], budget: &mut Budget) -> Result<Self> {
        machine::Machine::new(bytes, budget)?.run()
    }

    /// The pickled value.
    pub fn root(&self) -> Node<'_, 'a> {
        self.node(self.root)
    }

    /// The pickle's length in bytes; what follows does not belong to it.
    pub fn length(&self) -> usize {
        self.length
    }

    /// All references to objects outside the pickle, in the order they appear.
    pub(crate) fn persistent_ids(&self) -> impl Iterator<Item = Node<'_, 'a>> {
        self.persistent.iter().map(|&value| self.node(value))
    }

    fn node(&self, value: Value) -> Node<'_, 'a> {
        Node { pickle: self, value }
    }
}

/// A value in a [`Pickle`]. The methods return `None` for a value of another kind.
#[derive(Clone, Copy)]
pub struct Node<'p, 'a> {
    pickle: &'p Pickle<'a>,
    value: Value,
}

/// The sequence that holds a dict's keys and values, as pairs or alternating.
enum Contents {
    Pairs(u32),
    Alternating(u32),
}

/// A recorded call: a function or class by name, and its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Call<'p, 'a> {
    /// The Python module, such as `collections`.
    pub module: &'a str,
    /// The name of the function or class in it, such as `OrderedDict`.
    pub name: &'a str,
    /// The arguments, a tuple.
    pub arguments: Node<'p, 'a>,
    /// The argument of `__setstate__`; Python's `None` if there is none.
    pub state: Node<'p, 'a>,
}

impl<'p, 'a> Node<'p, 'a> {
    /// What the value is, for messages: `"a list"`, `"an object of argparse.Namespace"`.
    pub fn describe(&self) -> String {
        let plain = match self.value {
            Value::None => "None",
            Value::Bool(_) => "a bool",
            Value::Int(_) | Value::Wide(_) | Value::Big(_) | Value::Decimal(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Text(_) | Value::Escaped => "a string",
            Value::Bytes(_) => "bytes",
            Value::Tuple(_) => "a tuple",
            Value::List(_) => "a list",
            Value::Set(_) => "a set",
            Value::Dict(_) => "a dict",
            Value::Global(_) => {
                let (module, name) = self.global().unwrap_or_default();
                return excerpt(format!("{module}.{name}").as_bytes());
            }
            Value::Object(_) if self.entries().is_some() => "a dict",
            Value::Object(_) => match self.call() {
                Some(Call { module: "torch._utils" | "torch._tensor", name, .. }) if name.starts_with("_rebuild_") => {
                    "a tensor"
                }
                Some(Call { module, name: "_reconstruct" | "_frombuffer", .. }) if module.starts_with("numpy") => {
                    "a NumPy array"
                }
                Some(Call { module, name: "scalar", .. }) if module.starts_with("numpy") => "a NumPy scalar",
                Some(call) => {
                    return format!("an object of {}", excerpt(format!("{}.{}", call.module, call.name).as_bytes()));
                }
                None => "an object",
            },
            Value::Persistent(_) => "a storage",
        };
        plain.into()
    }

    /// Whether this is Python's `None`.
    pub fn is_none(&self) -> bool {
        matches!(self.value, Value::None)
    }

    /// A bool.
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

    /// A non-negative integer.
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

    /// A string, or bytes that are UTF-8 (Python 2 made no difference).
    pub fn as_text(&self) -> Option<&'a str> {
        match self.value {
            Value::Text(index) | Value::Bytes(index) => self.pickle.text(index),
            Value::Object(_) => self.encoded().filter(|text| matches!(text, Span::Ascii(_)))?.text(),
            _ => None,
        }
    }

    /// Bytes, or a string's UTF-8.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match self.value {
            Value::Text(index) | Value::Bytes(index) => Some(self.pickle.span(index).bytes()),
            // ASCII encodes to the same bytes.
            Value::Object(_) => self.encoded().filter(|text| matches!(text, Span::Ascii(_))).map(Span::bytes),
            _ => None,
        }
    }

    /// Bytes as Python 3 writes them in protocols 0 to 2, which have no bytes type: `_codecs.encode(text, "latin1")`.
    fn encoded(&self) -> Option<Span<'a>> {
        let call = self.call()?;
        match (call.module, call.name) {
            ("_codecs", "encode") => match call.arguments.tuple()? {
                [Node { value: Value::Text(index), .. }, encoding] if encoding.as_text() == Some("latin1") => {
                    Some(self.pickle.span(index))
                }
                _ => None,
            },
            // Empty bytes: `bytes()`.
            ("__builtin__" | "builtins", "bytes") => call.arguments.tuple::<0>().map(|_| Span::Ascii("")),
            _ => None,
        }
    }

    /// The text that encodes to these bytes in Latin-1.
    pub(crate) fn latin1(&self) -> Option<&'a str> {
        self.encoded()?.text()
    }

    /// Whether this is the integer beyond 64 bits with these little-endian two's-complement bytes, or these decimal
    /// digits.
    pub(crate) fn is_big_integer(&self, bytes: &[u8], digits: &str) -> bool {
        match self.value {
            Value::Big(index) => self.pickle.span(index).bytes() == bytes,
            Value::Decimal(index) => self.pickle.text(index) == Some(digits),
            _ => false,
        }
    }

    /// Identifies the contents of a dict, list or tuple: the same for all values that share them.
    pub(crate) fn identity(&self) -> Option<u32> {
        match (self.contents(), self.value) {
            (Some(Contents::Pairs(index) | Contents::Alternating(index)), _) => Some(index),
            (None, Value::Tuple(index) | Value::List(index)) => Some(index),
            _ => None,
        }
    }

    /// The items of a tuple or list.
    pub fn items(&self) -> Option<impl ExactSizeIterator<Item = Node<'p, 'a>> + use<'p, 'a>> {
        let pickle = self.pickle;
        match self.value {
            Value::Tuple(index) | Value::List(index) => {
                Some(pickle.sequences[index as usize].iter().map(move |&value| pickle.node(value)))
            }
            _ => None,
        }
    }

    /// The items of a tuple of length `N`.
    pub(crate) fn tuple<const N: usize>(&self) -> Option<[Node<'p, 'a>; N]> {
        let Value::Tuple(index) = self.value else { return None };
        let items: &[Value; N] = self.pickle.sequences[index as usize].as_slice().try_into().ok()?;
        Some(items.map(|value| self.pickle.node(value)))
    }

    /// The keys and values of a dict or a dict-like object (`collections.OrderedDict`, `defaultdict`, `Counter`, or any
    /// class whose objects have items set), in the order they were set. A key that was set twice appears twice.
    pub fn entries(&self) -> Option<impl Iterator<Item = (Node<'p, 'a>, Node<'p, 'a>)> + Clone + use<'p, 'a>> {
        let pickle = self.pickle;
        let values = |index: u32| pickle.sequences[index as usize].as_slice();
        let node = move |&value: &Value| pickle.node(value);
        let (pairs, alternating) = match self.contents()? {
            Contents::Pairs(index) => (values(index), &[][..]),
            Contents::Alternating(index) => (&[][..], values(index)),
        };
        let pair = move |value: &Value| {
            let mut items = node(value).items().filter(|items| items.len() == 2)?;
            Some((items.next()?, items.next()?))
        };
        if !pairs.iter().all(|value| pair(value).is_some()) {
            return None;
        }
        let alternating = alternating.chunks_exact(2).map(move |pair| (node(&pair[0]), node(&pair[1])));
        Some(pairs.iter().filter_map(pair).chain(alternating))
    }

    /// Where a dict's keys and values are.
    fn contents(&self) -> Option<Contents> {
        if let Value::Dict(index) = self.value {
            return Some(Contents::Alternating(index));
        }
        let object = self.raw_object()?;
        if object.entries != EMPTY {
            return Some(Contents::Alternating(object.entries));
        }
        let call = self.call()?;
        if !matches!((call.module, call.name), ("collections", "OrderedDict" | "defaultdict" | "Counter")) {
            return None;
        }
        // The constructor's argument: pairs (Python 2's OrderedDict) or a dict (Counter).
        match call.arguments.items()?.next().map(|argument| argument.value) {
            Some(Value::List(index)) => Some(Contents::Pairs(index)),
            Some(Value::Dict(index)) => Some(Contents::Alternating(index)),
            _ => Some(Contents::Alternating(EMPTY)),
        }
    }

    /// The value of a dict's key; as in Python, the last assignment counts.
    pub fn get(&self, key: &str) -> Option<Node<'p, 'a>> {
        let pairs = self.entries()?.filter(|(found, _)| found.as_bytes() == Some(key.as_bytes()));
        pairs.last().map(|(_, value)| value)
    }

    /// [`Self::get`] for the small dicts that PyTorch adds: looks at the first 64 entries only, because a hostile file may
    /// use one large dict very often.
    pub(crate) fn get_early(&self, key: &str) -> Option<Node<'p, 'a>> {
        let found = self.entries()?.take(64).find(|(found, _)| found.as_bytes() == Some(key.as_bytes()));
        found.map(|(_, value)| value)
    }

    /// A call to a function or class.
    pub fn call(&self) -> Option<Call<'p, 'a>> {
        let object = self.raw_object()?;
        let function = self.pickle.node(object.function);
        // PyTorch's older format names a module's class together with its source code: `('module', class, …)`.
        let (module, name) = function.global().or_else(|| function.persistent_id()?.items()?.nth(1)?.global())?;
        let [arguments, state] = [object.arguments, object.state].map(|value| self.pickle.node(value));
        Some(Call { module, name, arguments, state })
    }

    fn raw_object(&self) -> Option<&'p Object> {
        match self.value {
            Value::Object(index) => self.pickle.objects.get(index as usize),
            _ => None,
        }
    }

    /// The module and name of a function or class.
    pub fn global(&self) -> Option<(&'a str, &'a str)> {
        let Value::Global(index) = self.value else { return None };
        let (module, name) = self.pickle.globals[index as usize];
        Some((self.pickle.text(module)?, self.pickle.text(name)?))
    }

    /// The id of an object outside the pickle.
    pub fn persistent_id(&self) -> Option<Node<'p, 'a>> {
        match self.value {
            Value::Persistent(index) => Some(self.pickle.node(self.pickle.persistent[index as usize])),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Node<'_, '_> {
    /// Only the kind: a value may contain itself.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())
    }
}
