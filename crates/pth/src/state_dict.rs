//! Named tensors in order, read from a file or written to one.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::Write;

use crate::budget::Budget;
use crate::dtype::DType;
use crate::error::{Error, Result, excerpt};
use crate::layout::Layout;
use crate::legacy::Legacy;
use crate::pickle::{Node, Pickle};
use crate::rebuild::{self, Rebuilt};
use crate::tensor::Tensor;
use crate::zip_read::Records;
use crate::zip_write::{ALIGNMENT, Archive};
use crate::{format, pickle_write, search};

/// Named tensors, in the order of the file or in the order they were pushed.
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
    /// The tensors' modules and their versions.
    versions: Vec<(&'a str, i64)>,
}

impl<'a> StateDict<'a> {
    /// An empty state dict.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a tensor. [`Self::write`] checks that names are unique.
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

    /// The tensor with this name, found by linear search.
    pub fn get(&self, name: &str) -> Option<&Tensor<'a>> {
        self.iter().find(|&(found, _)| found == name).map(|(_, tensor)| tensor)
    }

    /// The names and tensors, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor<'a>)> {
        self.entries.iter().map(|(name, tensor)| (&**name, tensor))
    }

    /// The version of the module whose tensors' names start with `module` and a dot. PyTorch's layers raise it when they
    /// change what they save: batch norm has had `num_batches_tracked` since version 2. `None` if the file doesn't say, or
    /// if the state dict was not read from a file.
    pub fn module_version(&self, module: &str) -> Option<i64> {
        self.versions.iter().find(|(known, _)| *known == module).map(|&(_, version)| version)
    }

    /// Reads the bytes of a file written by `torch.save`, in either of PyTorch's formats: a state dict, or a checkpoint
    /// that holds one under `state_dict`, `model_state_dict` or `model`, or as its only dict of tensors. Everything else
    /// in the file is skipped, but under those three names a value that is no tensor is an error. Contiguous tensors
    /// borrow from `file`; strided, expanded and big-endian ones are copied.
    ///
    /// # Errors
    /// Any [`Error`] except those of writing: if the file is of another kind, truncated or damaged, holds no state dict or
    /// several, holds a tensor that is not a dense array of a [`DType`], or would need more memory than twice its length
    /// plus [`MEMORY_FLOOR`](crate::MEMORY_FLOOR).
    pub fn read(file: &'a [u8]) -> Result<Self> {
        Self::read_under(file, &[])
    }

    /// Like [`Self::read`], but takes the state dict under these nested keys: `&["ema", "weights"]` reads
    /// `torch.load(path)["ema"]["weights"]`, and `&["models", "0"]` the first item of a list. Without keys it searches as
    /// [`Self::read`] does.
    ///
    /// # Errors
    /// As [`Self::read`], and [`Error::NoSuchKey`] if a key is missing.
    pub fn read_under(file: &'a [u8], keys: &[&str]) -> Result<Self> {
        let mut budget = Budget::for_length(file.len());
        if file.starts_with(format::ZIP) {
            let mut records = Records::open(file, &mut budget)?;
            if records.contains("constants.pkl") {
                return Err(Error::TorchScript);
            }
            let big_endian = match records.contains("byteorder").then(|| records.get("byteorder")).transpose()? {
                None | Some(b"little") => false,
                Some(b"big") => true,
                Some(found) => return Err(Error::ByteOrder { found: excerpt(found) }),
            };
            let pickle = Pickle::read_within(records.get("data.pkl")?, &mut budget)?;
            let storage = |key: &str| records.get(&format!("data/{key}"));
            Reader { storage, big_endian, budget }.state_dict(pickle.root(), keys)
        } else if format::is_legacy(file) {
            let legacy = Legacy::read(file, &mut budget)?;
            let storage = |key: &str| legacy.storage(key);
            Reader { storage, big_endian: false, budget }.state_dict(legacy.object.root(), keys)
        } else {
            Err(Error::UnknownFormat { found: format::guess(file) })
        }
    }

    /// Writes what `torch.save` would write for an `OrderedDict` of these tensors; `name` is the file's name without
    /// `.pth`. `torch.load(path, weights_only=True)` opens it. Only the fingerprint in the last record differs. Wrap a file
    /// in a `BufWriter`.
    ///
    /// # Errors
    /// [`Error::Write`], [`Error::DuplicateName`], [`Error::ArchiveName`], or [`Error::TooLargeToWrite`] at 4 GiB or more.
    pub fn write(&self, name: &str, to: impl Write) -> Result<()> {
        // A zip entry's name has 16 bits for its length.
        if name.is_empty() || name.len() > 200 || name.contains(['/', '\\']) {
            return Err(Error::ArchiveName { name: excerpt(name.as_bytes()) });
        }
        let mut names = HashSet::with_capacity(self.len());
        if let Some((name, _)) = self.iter().find(|(name, _)| !names.insert(*name)) {
            return Err(Error::DuplicateName { name: excerpt(name.as_bytes()) });
        }
        let mut archive = Archive::new(name, to);
        archive.record("data.pkl", &pickle_write::state_dict(self.iter())?)?;
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

/// Reads a state dict's tensors from their storages.
struct Reader<S> {
    storage: S,
    big_endian: bool,
    budget: Budget,
}

/// What identifies a view: its storage's address, its offset, type, shape and strides.
type View = (*const u8, usize, DType, Vec<usize>, Vec<usize>);

impl<'a, S: FnMut(&str) -> Result<&'a [u8]>> Reader<S> {
    fn state_dict(mut self, root: Node<'_, 'a>, keys: &[&str]) -> Result<StateDict<'a>> {
        let dict = if keys.is_empty() { search::search(root, &mut self.budget)? } else { search::follow(root, keys)? };
        let mut state = StateDict::new();
        let mut views = HashMap::new();
        for (key, value) in dict.entries().into_iter().flatten() {
            let name = key.as_text().ok_or_else(|| search::not_a_tensor(key, value))?;
            let tensor = self.tensor(name, value, &mut views)?;
            self.budget.take(size_of_val(tensor.shape()))?;
            self.budget.push(&mut state.entries, (Cow::Borrowed(name), tensor))?;
        }
        self.check_names(&state)?;
        self.read_versions(dict, &mut state)?;
        Ok(state)
    }

    /// The modules' versions, an attribute of the OrderedDict that `state_dict()` returns.
    fn read_versions(&mut self, dict: Node<'_, 'a>, state: &mut StateDict<'a>) -> Result<()> {
        let metadata = dict.call().and_then(|call| call.state.get("_metadata")?.entries());
        for (module, version) in metadata.into_iter().flatten() {
            if let Some(module) = module.as_text()
                && let Some(version) = version.get_early("version").and_then(|version| version.as_i64())
            {
                self.budget.push(&mut state.versions, (module, version))?;
            }
        }
        Ok(())
    }

    /// Checks that names are unique.
    fn check_names(&mut self, state: &StateDict<'a>) -> Result<()> {
        let mut names = Vec::new();
        self.budget.reserve(&mut names, state.len())?;
        names.extend(state.entries.iter().map(|(name, _)| &**name));
        let duplicate = |pair: &[&str]| Error::DuplicateName { name: excerpt(pair[0].as_bytes()) };
        // By address first: finds one long name used very often without comparing its bytes.
        names.sort_unstable_by_key(|name: &&str| (name.as_ptr(), name.len()));
        if let Some(pair) = names.windows(2).find(|pair| std::ptr::eq(pair[0], pair[1]) && !pair[0].is_empty()) {
            return Err(duplicate(pair));
        }
        names.sort_unstable();
        names.windows(2).find(|pair| pair[0] == pair[1]).map_or(Ok(()), |pair| Err(duplicate(pair)))
    }

    fn tensor(&mut self, name: &str, value: Node<'_, 'a>, views: &mut HashMap<View, Tensor<'a>>) -> Result<Tensor<'a>> {
        let Rebuilt { storage, dtype, shape, strides, offset } = rebuild::tensor(name, value)?;
        let bytes = storage.of(dtype, (self.storage)(storage.key)?)?;
        let view = (bytes.as_ptr(), offset, dtype, shape, strides);
        if let Some(known) = views.get(&view) {
            return Ok(known.clone());
        }
        let (_, _, _, shape, strides) = &view;
        let layout = Layout { dtype, shape, strides, offset, big_endian: self.big_endian };
        let data = layout.gather(name.as_bytes(), bytes, &mut self.budget)?;
        let tensor = Tensor::new(dtype, shape.clone(), data)?;
        // The entry, its two lists, and the hash table's free slots.
        self.budget.take(2 * size_of::<(View, Tensor)>() + 2 * size_of_val(shape.as_slice()))?;
        views.insert(view, tensor.clone());
        Ok(tensor)
    }
}
