//! What can be wrong with a file or with what is to be written.

use crate::dtype::DType;

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with a file or with what is to be written, each with the offending value.
///
/// ```
/// let error = pth::StateDict::read(b"GIF89a").unwrap_err();
/// assert!(matches!(error, pth::Error::UnknownFormat { .. }));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Writing failed.
    #[error("writing failed: {0}")]
    Write(#[from] std::io::Error),

    /// Neither a zip archive nor a pickle.
    #[error("this is not a file of torch.save: {found}")]
    UnknownFormat {
        /// What it is instead, as far as its first bytes tell, and what to do about it.
        found: String,
    },

    /// The file ends too early, or a length or an offset in it is wrong.
    #[error("{what} at byte {position} needs {needed} bytes, and {left} are left: the file was cut or is damaged")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where, counted from the start of the file or of the pickle.
        position: usize,
        /// The bytes needed.
        needed: usize,
        /// The bytes left.
        left: usize,
    },

    /// The archive's directory, which lies at its end, was not found.
    #[error("the archive's directory is missing: the file was cut")]
    NoDirectory,

    /// The archive's directory points to something else than what it says.
    #[error("there is no {what} at byte {position}: the archive is damaged")]
    Signature {
        /// What should be there.
        what: &'static str,
        /// Where.
        position: u64,
    },

    /// A record is compressed; torch.save never does that.
    #[error("the record {record} is compressed (method {method}), which torch.save never does: save it again with it")]
    Compressed {
        /// The record's name.
        record: String,
        /// Zip's number of the method.
        method: u16,
    },

    /// A record is encrypted.
    #[error("the record {record} is encrypted")]
    Encrypted {
        /// The record's name.
        record: String,
    },

    /// A record that a state dict has is not in the archive.
    #[error("the archive has no record {record}: it is no state dict, or a part of it is lost")]
    MissingRecord {
        /// The record's name, without the archive's.
        record: String,
    },

    /// Two records have one name.
    #[error("the archive has two records of the name {record}")]
    DuplicateRecord {
        /// The record's name.
        record: String,
    },

    /// A record's bytes are not those that were written.
    #[error("the record {record} is damaged: its checksum is {found:08x}, and should be {expected:08x}")]
    Checksum {
        /// The record's name.
        record: String,
        /// The checksum in the directory.
        expected: u32,
        /// The checksum of the bytes found.
        found: u32,
    },

    /// The record `byteorder` says neither `little` nor `big`.
    #[error("the byte order is {found:?}, and should be \"little\" or \"big\"")]
    ByteOrder {
        /// What it says.
        found: String,
    },

    /// A compiled model, which holds code.
    #[error(
        "this is a TorchScript archive, which holds code: load it in Python, and save its state_dict() with torch.save"
    )]
    TorchScript,

    /// The format's version.
    #[error("the file's version of the format is {found}, and 1001 is the one of torch.save's older format")]
    LegacyVersion {
        /// The version found.
        found: String,
    },

    /// A pickle with an instruction that no data of a state dict has.
    #[error("instruction {opcode:#04x} at byte {position} of the pickle is unknown or not needed for tensors")]
    Opcode {
        /// The instruction.
        opcode: u8,
        /// Where in the pickle.
        position: usize,
    },

    /// A pickle of a protocol that is not known.
    #[error("the pickle has protocol {found}, and 5 is the latest")]
    Protocol {
        /// The protocol.
        found: u8,
    },

    /// An instruction does not find what it works on.
    #[error("instruction {opcode:#04x} at byte {position} of the pickle needs {needed}, and does not find it")]
    Operand {
        /// The instruction.
        opcode: u8,
        /// Where in the pickle.
        position: usize,
        /// What it needs.
        needed: &'static str,
    },

    /// A text is not UTF-8.
    #[error("the text at byte {position} of the pickle is not UTF-8")]
    Text {
        /// Where in the pickle.
        position: usize,
    },

    /// The file's content would take more memory than its length justifies.
    #[error("the file's content would take more than {limit} bytes of memory, twice its length and 1 GiB: refused")]
    Memory {
        /// The limit in bytes.
        limit: usize,
    },

    /// There are no named tensors.
    #[error("{at} is {found}, not a dict of tensors{hint}")]
    NoStateDict {
        /// Which part of the file.
        at: String,
        /// What was found there.
        found: String,
        /// What is there, and what can be done about it; or nothing.
        hint: String,
    },

    /// There is nothing under the keys that were asked for.
    #[error("there is no {keys} in the file{}", if there.is_empty() { String::new() } else { format!("; there is {there}") })]
    NoSuchKey {
        /// The keys, up to the first that is missing.
        keys: String,
        /// What lies where that should be.
        there: String,
    },

    /// More than one dict of named tensors, none of them under a usual key.
    #[error("the file has several state dicts: {keys}; name the one that is meant by its keys")]
    SeveralStateDicts {
        /// Where they are.
        keys: String,
    },

    /// A name of the state dict does not belong to a tensor.
    #[error("{name} is {found}, and should be a tensor")]
    NotATensor {
        /// The name.
        name: String,
        /// What was found.
        found: String,
    },

    /// A tensor of a kind or a type that is not read.
    #[error("{tensor} is {found}, which is not read here: in Python, save {advice} in its place")]
    UnsupportedTensor {
        /// The tensor's name.
        tensor: String,
        /// What it is.
        found: String,
        /// What to save in its place.
        advice: String,
    },

    /// A tensor's description is not what PyTorch writes.
    #[error("{tensor}: {what} is {found}, and should be {expected}")]
    Description {
        /// The tensor's name.
        tensor: String,
        /// Which part of it.
        what: &'static str,
        /// What was found.
        found: String,
        /// What should be there.
        expected: &'static str,
    },

    /// A tensor lies outside of its storage.
    #[error(
        "{tensor}: shape {shape:?} with strides {strides:?} from element {offset} on leaves its storage of {length} \
         elements"
    )]
    OutsideStorage {
        /// The tensor's name.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Its strides, in elements.
        strides: Vec<usize>,
        /// Its first element.
        offset: usize,
        /// The storage's length in elements.
        length: usize,
    },

    /// A storage's record has another length than its tensors say.
    #[error("the storage {key} has {found} bytes, and should have {elements} elements of type {dtype}")]
    StorageLength {
        /// The storage's key.
        key: String,
        /// Its elements, as the pickle says.
        elements: usize,
        /// Their type.
        dtype: DType,
        /// The bytes found.
        found: usize,
    },

    /// Two tensors have one name.
    #[error("two tensors have the name {name}")]
    DuplicateName {
        /// The name.
        name: String,
    },

    /// Bytes and shape do not fit together.
    #[error("a tensor of type {dtype} and shape {shape:?} does not have {found} bytes")]
    DataLength {
        /// The type.
        dtype: DType,
        /// The shape.
        shape: Vec<usize>,
        /// The bytes given.
        found: usize,
    },

    /// More than a zip archive holds without its extension for large files.
    #[error("the archive would have more than 4 GiB, which this crate does not write: split the state dict")]
    TooLargeToWrite,

    /// The name of the archive's folder.
    #[error("an archive cannot be called {name:?}: the name has 1 to 200 bytes and no slash")]
    ArchiveName {
        /// The name given.
        name: String,
    },
}

/// A name from a file for an error: short, and with what a terminal might act on written out.
pub(crate) fn excerpt(text: &[u8]) -> String {
    // Longer names fill a screen and say no more.
    const LONGEST: usize = 80;
    let cut = &text[..text.len().min(LONGEST)];
    let mut shown: String = String::from_utf8_lossy(cut).chars().flat_map(char::escape_debug).collect();
    if cut.len() < text.len() {
        shown.push('…');
    }
    shown
}
