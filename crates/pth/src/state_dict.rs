//! Named tensors in order, read from a file and written to one.

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
    /// The versions of the modules that the tensors are of.
    versions: Vec<(&'a str, i64)>,
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

    /// The version of the module whose tensors begin with `module` and a dot, as PyTorch's layers count changes of what
    /// they save: batch norm has `num_batches_tracked` since version 2. None where the file does not say, and always in
    /// what was not read from one.
    pub fn module_version(&self, module: &str) -> Option<i64> {
        self.versions.iter().find(|(known, _)| *known == module).map(|&(_, version)| version)
    }

    /// Reads a file of `torch.save`, given as its bytes: a state dict, or a checkpoint that has one, under the key
    /// `state_dict`, `model_state_dict` or `model`, or as its only dict of tensors. What else lies in the file is stepped
    /// over. Both of PyTorch's formats are read. The result borrows from the bytes what lies there as it is needed;
    /// views, transposed and expanded tensors and those of big-endian machines are copied.
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
    /// Any [`Error`] but those of writing: where the file is of another kind, cut or damaged, has no state dict or more
    /// than one, has a tensor in it that is no array of one of the types of [`DType`], or would take more memory than
    /// twice its length and [`MEMORY_FLOOR`](crate::MEMORY_FLOOR).
    pub fn read(file: &'a [u8]) -> Result<Self> {
        Self::read_under(file, &[])
    }

    /// As [`Self::read`], with the state dict under these keys, one inside the other: `&["ema", "weights"]` reads
    /// `torch.load(path)["ema"]["weights"]`, and `&["models", "0"]` also an item of a list. No keys at all search as
    /// [`Self::read`] does.
    ///
    /// # Errors
    /// As [`Self::read`], and [`Error::NoStateDict`] where a key is not there.
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
            Reader { storage, big_endian, file_length: file.len(), budget }.state_dict(pickle.root(), keys)
        } else if format::is_legacy(file) {
            let legacy = Legacy::read(file, &mut budget)?;
            let (storage, big_endian) = (|key: &str| legacy.storage(key), legacy.big_endian);
            Reader { storage, big_endian, file_length: file.len(), budget }.state_dict(legacy.object.root(), keys)
        } else {
            Err(Error::UnknownFormat { found: format::guess(file) })
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

/// Reads tensors out of storages.
struct Reader<S> {
    storage: S,
    big_endian: bool,
    file_length: usize,
    budget: Budget,
}

/// What tells one view from another: its storage's and its own place, its type, shape and strides.
type View = (*const u8, usize, DType, Vec<usize>, Vec<usize>);

impl<'a, S: FnMut(&str) -> Result<&'a [u8]>> Reader<S> {
    fn state_dict(mut self, root: Node<'_, 'a>, keys: &[&str]) -> Result<StateDict<'a>> {
        let dict = if keys.is_empty() { search::search(root)? } else { search::follow(root, keys)? };
        let mut state = StateDict::new();
        let mut views = HashMap::new();
        let mut names_length = 0usize;
        for (key, value) in dict.entries().into_iter().flatten() {
            // Names that are longer than the file together are not all different. Noticed before each is looked through:
            // a long one that is called up very often would take time without end.
            let bytes = key.as_bytes().unwrap_or_default();
            names_length = names_length.saturating_add(bytes.len());
            if names_length > self.file_length {
                return Err(Error::DuplicateName { name: excerpt(bytes) });
            }
            let name =
                key.as_text().ok_or_else(|| Error::NotATensor { name: search::name(key), found: value.describe() })?;
            let tensor = self.tensor(name, value, &mut views)?;
            self.budget.take(size_of_val(tensor.shape()))?;
            self.budget.push(&mut state.entries, (Cow::Borrowed(name), tensor))?;
        }
        self.check_names(&state)?;
        self.read_versions(dict, &mut state)?;
        Ok(state)
    }

    /// The versions of the modules, which an OrderedDict made by `state_dict()` carries as an attribute.
    fn read_versions(&mut self, dict: Node<'_, 'a>, state: &mut StateDict<'a>) -> Result<()> {
        let metadata = dict.call().and_then(|call| call.state.get("_metadata")?.entries());
        for (module, version) in metadata.into_iter().flatten() {
            if let Some(module) = module.as_text()
                && let Some(version) = version.get("version").and_then(|version| version.as_i64())
            {
                self.budget.push(&mut state.versions, (module, version))?;
            }
        }
        Ok(())
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
        // The entry, its two lists, and what a hash table leaves free.
        self.budget.take(2 * size_of::<(View, Tensor)>() + 2 * size_of_val(shape.as_slice()))?;
        views.insert(view, tensor.clone());
        Ok(tensor)
    }
}
