//! Named tensors in order, read from a file and written to one.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::Write;

use crate::budget::Budget;
use crate::error::{Error, Result, excerpt};
use crate::layout::{Layout, MOST_DIMENSIONS};
use crate::legacy::Legacy;
use crate::pickle::{Node, Pickle};
use crate::zip_read::Records;
use crate::zip_write::{ALIGNMENT, Archive};
use crate::{DType, Tensor, pickle_write};

/// What a state dict's pickle may name.
pub(crate) const GLOBALS: &[(&str, &str)] = &[
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "Size"),
    ("torch", "FloatStorage"),
    ("torch", "DoubleStorage"),
    ("torch", "HalfStorage"),
    ("torch", "BFloat16Storage"),
    ("torch", "LongStorage"),
    ("torch", "IntStorage"),
    ("torch", "ShortStorage"),
    ("torch", "CharStorage"),
    ("torch", "ByteStorage"),
    ("torch", "BoolStorage"),
];

/// Where training scripts put a state dict inside a checkpoint, in the order in which it is searched for.
const USUAL_KEYS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// PyTorch's keys are small numbers (a few more digits in the older format).
const LONGEST_KEY: usize = 255;

/// Named tensors, in the order of the file, or in that in which they were pushed.
///
/// ```
/// use pth::{StateDict, Tensor};
///
/// let mut state = StateDict::new();
/// state.push("conv1.weight", Tensor::from_f32(&[1, 1, 1, 2], &[1.0, 2.0])?);
/// state.push("conv1.bias", Tensor::from_f32(&[1], &[0.0])?);
/// assert_eq!(state.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["conv1.weight", "conv1.bias"]);
/// # Ok::<(), pth::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateDict<'a> {
    entries: Vec<(Cow<'a, str>, Tensor<'a>)>,
}

impl<'a> StateDict<'a> {
    /// No tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor behind the others. That each name comes once is checked in [`Self::write`].
    pub fn push(&mut self, name: impl Into<Cow<'a, str>>, tensor: Tensor<'a>) {
        self.entries.push((name.into(), tensor));
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The tensor of this name; the names are looked through one by one.
    pub fn get(&self, name: &str) -> Option<&Tensor<'a>> {
        self.iter().find(|&(found, _)| found == name).map(|(_, tensor)| tensor)
    }

    /// Names and tensors in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor<'a>)> {
        self.entries.iter().map(|(name, tensor)| (&**name, tensor))
    }

    /// Reads a file of `torch.save`, given as its bytes: a state dict, or a checkpoint that has one under the key
    /// `state_dict`, `model_state_dict` or `model`. Both of PyTorch's formats are read. The result borrows from the
    /// bytes what lies there as it is needed; views, transposed and expanded tensors and those of big-endian machines
    /// are copied.
    ///
    /// ```
    /// # let mut state = pth::StateDict::new();
    /// # state.push("fc.bias", pth::Tensor::from_f32(&[1], &[0.5])?);
    /// # let path = std::env::temp_dir().join("pth-doctest-read.pth");
    /// # state.write("net", std::fs::File::create(&path)?)?;
    /// let file = std::fs::read(&path)?;
    /// for (name, tensor) in pth::StateDict::read(&file)?.iter() {
    ///     println!("{name}: {} {:?}", tensor.dtype(), tensor.shape());
    /// }
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), pth::Error>(())
    /// ```
    ///
    /// # Errors
    /// Any [`Error`] but those of writing: where the file is of another kind, cut or damaged, names what a state dict
    /// does not need, or would take more memory than twice its length and [`MEMORY_FLOOR`](crate::MEMORY_FLOOR).
    pub fn read(file: &'a [u8]) -> Result<Self> {
        Self::read_under(file, &[])
    }

    /// As [`Self::read`], with the state dict under these keys, one inside the other: `&["ema", "weights"]` reads
    /// `torch.load(path)["ema"]["weights"]`. No keys at all search as [`Self::read`] does.
    ///
    /// # Errors
    /// As [`Self::read`], and [`Error::NoStateDict`] where a key is not there.
    pub fn read_under(file: &'a [u8], keys: &[&str]) -> Result<Self> {
        let mut budget = Budget::for_length(file.len());
        if file.starts_with(b"PK") {
            let mut records = Records::open(file, &mut budget)?;
            if records.contains("constants.pkl") {
                return Err(Error::TorchScript);
            }
            let big_endian = match records.contains("byteorder").then(|| records.get("byteorder")).transpose()? {
                None | Some(b"little") => false,
                Some(b"big") => true,
                Some(found) => return Err(Error::ByteOrder { found: excerpt(found) }),
            };
            let pickle = Pickle::read_within(records.get("data.pkl")?, GLOBALS, &mut budget)?;
            let storage = |key: &str| records.get(&format!("data/{key}"));
            let reader = Reader { storage, big_endian, legacy: false, file_length: file.len(), budget };
            reader.state_dict(pickle.root(), keys)
        } else if file.starts_with(&[0x80]) {
            let legacy = Legacy::read(file, &mut budget)?;
            let storage = |key: &str| legacy.storage(key);
            let big_endian = legacy.big_endian;
            let reader = Reader { storage, big_endian, legacy: true, file_length: file.len(), budget };
            reader.state_dict(legacy.object.root(), keys)
        } else {
            Err(Error::UnknownFormat { start: file[..file.len().min(8)].to_vec() })
        }
    }

    /// Writes the file that `torch.save` would write of an `OrderedDict` of these tensors into a file called `name`
    /// (without `.pth`): in Python, `torch.load(path, weights_only=True)` opens it. Only the fingerprint in its last
    /// record differs. Wrap a file in a `BufWriter`.
    ///
    /// ```
    /// let mut file = Vec::new();
    /// pth::StateDict::new().write("empty", &mut file)?;
    /// assert!(pth::StateDict::read(&file)?.is_empty());
    /// # Ok::<(), pth::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Write`], [`Error::DuplicateName`], [`Error::ArchiveName`], and [`Error::TooLargeToWrite`] from 4 GiB on.
    pub fn write(&self, name: &str, to: impl Write) -> Result<()> {
        // PyTorch cuts nothing off; zip's names have 16 bits for their length.
        if name.is_empty() || name.len() > 200 || name.contains(['/', '\\']) {
            return Err(Error::ArchiveName { name: excerpt(name.as_bytes()) });
        }
        let mut names = HashSet::with_capacity(self.len());
        if let Some((name, _)) = self.iter().find(|(name, _)| !names.insert(*name)) {
            return Err(Error::DuplicateName { name: excerpt(name.as_bytes()) });
        }
        let mut archive = Archive::new(name, to);
        archive.record("data.pkl", &pickle_write::state_dict(self)?)?;
        archive.record(".format_version", b"1")?;
        archive.record(".storage_alignment", ALIGNMENT.to_string().as_bytes())?;
        archive.record("byteorder", b"little")?;
        for (key, (_, tensor)) in self.iter().enumerate() {
            archive.record(&format!("data/{key}"), tensor.data())?;
        }
        archive.record("version", b"3\n")?;
        let fingerprint = archive.fingerprint();
        archive.record(".data/serialization_id", fingerprint.as_bytes())?;
        archive.finish()
    }
}

impl<'a> IntoIterator for StateDict<'a> {
    type Item = (Cow<'a, str>, Tensor<'a>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

/// What a pickle says of a storage: `('storage', torch.FloatStorage, '0', 'cpu', 6)`.
pub(crate) struct StorageId<'a> {
    pub(crate) dtype: DType,
    pub(crate) key: &'a str,
    elements: usize,
}

impl<'a> StorageId<'a> {
    fn from_archive(id: Node<'_, 'a>) -> Result<Self> {
        match id.tuple::<5>() {
            Some([kind, class, key, _, elements]) => Self::from_parts(kind, class, key, elements),
            None => Err(Self::wrong(id.kind().into())),
        }
    }

    pub(crate) fn from_legacy(id: Node<'_, 'a>) -> Result<Self> {
        match id.tuple::<6>() {
            Some([kind, class, key, _, elements, view]) => {
                let id = Self::from_parts(kind, class, key, elements)?;
                if !view.is_none() {
                    return Err(Error::StorageView { key: id.key.into() });
                }
                Ok(id)
            }
            None => Err(Self::wrong(id.kind().into())),
        }
    }

    fn from_parts(kind: Node<'_, 'a>, class: Node<'_, 'a>, key: Node<'_, 'a>, elements: Node<'_, 'a>) -> Result<Self> {
        if kind.as_text() != Some("storage") {
            return Err(Self::wrong(kind.as_bytes().map_or(kind.kind().into(), excerpt)));
        }
        let dtype = class.global().filter(|&(module, _)| module == "torch");
        let dtype = dtype.and_then(|(_, name)| DType::from_storage_class(name));
        let key = key.as_text().filter(|key| key.len() <= LONGEST_KEY);
        match (dtype, key, elements.as_usize()) {
            (Some(dtype), Some(key), Some(elements)) => Ok(Self { dtype, key, elements }),
            _ => Err(Self::wrong("one with another class, key or length".into())),
        }
    }

    fn wrong(found: String) -> Error {
        Error::Description {
            tensor: "a storage's id".into(),
            what: "it",
            found,
            expected: "a tuple ('storage', class, key, device, number of elements)",
        }
    }
}

struct Reader<S> {
    storage: S,
    big_endian: bool,
    legacy: bool,
    file_length: usize,
    budget: Budget,
}

impl<'a, S: FnMut(&str) -> Result<&'a [u8]>> Reader<S> {
    fn state_dict(mut self, root: Node<'_, 'a>, keys: &[&str]) -> Result<StateDict<'a>> {
        let (mut dict, mut at) = (root, "the file's content".to_string());
        for key in keys {
            at = excerpt(key.as_bytes());
            dict = dict.get(key).ok_or(Error::NoStateDict { at: at.clone(), found: "not there", hint: "" })?;
        }
        if keys.is_empty() {
            let inner = USUAL_KEYS.iter().find_map(|key| dict.get(key).filter(|inner| inner.entries().is_some()));
            dict = inner.unwrap_or(dict);
        }
        let hint =
            if dict.kind() == "a tensor" { ": name it, as in torch.save({\"weight\": tensor}, path)" } else { "" };
        let entries = dict.entries().ok_or(Error::NoStateDict { at, found: dict.kind(), hint })?;
        let mut state = StateDict::new();
        let mut names_length = 0usize;
        for (name, value) in entries {
            // Names that are longer than the file together are not all different. Noticed before each is looked through:
            // a long one that is called up very often would take time without end.
            let bytes = name.as_bytes().unwrap_or_default();
            names_length = names_length.saturating_add(bytes.len());
            if names_length > self.file_length {
                return Err(Error::DuplicateName { name: excerpt(bytes) });
            }
            let name = name.as_text().ok_or(Error::NotATensor { name: "a key".into(), found: name.kind() })?;
            let tensor = self.tensor(name, value)?;
            self.budget.take(size_of_val(tensor.shape()))?;
            self.budget.push(&mut state.entries, (Cow::Borrowed(name), tensor))?;
        }
        self.check_names(&state)?;
        Ok(state)
    }

    /// That each name comes once.
    fn check_names(&mut self, state: &StateDict<'a>) -> Result<()> {
        let mut names = Vec::new();
        self.budget.reserve(&mut names, state.len())?;
        names.extend(state.entries.iter().map(|(name, _)| &**name));
        let duplicate = |pair: &[&str]| Error::DuplicateName { name: excerpt(pair[0].as_bytes()) };
        // By place first: one long name used very often is found without comparing its bytes.
        names.sort_unstable_by_key(|name: &&str| (name.as_ptr(), name.len()));
        if let Some(pair) = names.windows(2).find(|pair| std::ptr::eq(pair[0], pair[1]) && !pair[0].is_empty()) {
            return Err(duplicate(pair));
        }
        names.sort_unstable();
        names.windows(2).find(|pair| pair[0] == pair[1]).map_or(Ok(()), |pair| Err(duplicate(pair)))
    }

    fn tensor(&mut self, name: &str, value: Node<'_, 'a>) -> Result<Tensor<'a>> {
        let not_a_tensor = || Error::NotATensor { name: excerpt(name.as_bytes()), found: value.kind() };
        let mut call = value.call().ok_or_else(not_a_tensor)?;
        if call.name == "_rebuild_parameter" {
            // A parameter is a call with a tensor as its first argument, and never one inside another.
            let tensor = call.arguments.items().and_then(|mut arguments| arguments.next());
            call = tensor.and_then(|tensor| tensor.call()).ok_or_else(not_a_tensor)?;
        }
        if !matches!(call.name, "_rebuild_tensor_v2" | "_rebuild_tensor") {
            return Err(not_a_tensor());
        }
        let wrong = |what, found: Node, expected| Error::Description {
            tensor: excerpt(name.as_bytes()),
            what,
            found: found.kind().into(),
            expected,
        };
        let expected = "a tuple of storage, offset, size and strides";
        let mut arguments = call.arguments.items().into_iter().flatten();
        let (Some(storage), Some(offset), Some(shape), Some(strides)) =
            (arguments.next(), arguments.next(), arguments.next(), arguments.next())
        else {
            return Err(wrong("its description", call.arguments, expected));
        };
        let id = storage.persistent_id().ok_or_else(|| wrong("its storage", storage, "a storage"))?;
        let id = if self.legacy { StorageId::from_legacy(id)? } else { StorageId::from_archive(id)? };
        let offset = offset.as_usize().ok_or_else(|| wrong("its offset", offset, "a count of elements"))?;
        let sizes = sizes(shape).ok_or_else(|| wrong("its shape", shape, "a tuple of at most 64 sizes"))?;
        let steps = self::sizes(strides).filter(|steps| steps.len() == sizes.len());
        let steps = steps.ok_or_else(|| wrong("its strides", strides, "a tuple as long as the shape"))?;
        let bytes = (self.storage)(id.key)?;
        if Some(bytes.len()) != id.elements.checked_mul(id.dtype.size()) {
            let (key, found) = (excerpt(id.key.as_bytes()), bytes.len());
            return Err(Error::StorageLength { key, elements: id.elements, dtype: id.dtype, found });
        }
        let layout = Layout { dtype: id.dtype, shape: &sizes, strides: &steps, offset, big_endian: self.big_endian };
        let data = layout.gather(name.as_bytes(), bytes, &mut self.budget)?;
        Tensor::new(id.dtype, sizes, data)
    }
}

/// A tuple of sizes, or a `torch.Size` of one.
fn sizes(node: Node) -> Option<Vec<usize>> {
    let node = match node.call() {
        Some(call) if call.name == "Size" => call.arguments.tuple::<1>()?[0],
        _ => node,
    };
    node.items().filter(|items| items.len() <= MOST_DIMENSIONS)?.map(|size| size.as_usize()).collect()
}
