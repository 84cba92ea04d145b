//! What can go wrong when reading or writing a state dict.

use crate::dtype::DType;

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong when reading or writing a state dict, each with the offending value.
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
    #[error("not a file written by torch.save: {found}")]
    UnknownFormat {
        /// What it is instead, judging by its first bytes, and what to do about it.
        found: String,
    },

    /// The file ends too early, or a length or offset in it is wrong.
    #[error("{what} at byte {position} needs {needed} bytes, but {left} are left: the file is truncated or damaged")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where, from the start of the file or pickle.
        position: usize,
        /// The bytes needed.
        needed: usize,
        /// The bytes left.
        left: usize,
    },

    /// The archive's directory, which is at its end, was not found.
    #[error("the archive's directory is missing: the file is truncated")]
    NoDirectory,

    /// The archive's directory points to the wrong place.
    #[error("there is no {what} at byte {position}: the archive is damaged")]
    Signature {
        /// What should be there.
        what: &'static str,
        /// Where.
        position: u64,
    },

    /// A record is compressed, which `torch.save` never does.
    #[error(
        "record {record} is compressed (method {method}): save the file again with torch.save, which never compresses"
    )]
    Compressed {
        /// The record's name.
        record: String,
        /// Zip's number for the method.
        method: u16,
    },

    /// A record is encrypted.
    #[error("record {record} is encrypted: decrypt the archive first")]
    Encrypted {
        /// The record's name.
        record: String,
    },

    /// A record that every state dict has is missing.
    #[error("the archive has no record {record}: it is not a state dict, or part of it is lost")]
    MissingRecord {
        /// The record's name, without the archive's.
        record: String,
    },

    /// Two records have the same name.
    #[error("the archive has two records named {record}")]
    DuplicateRecord {
        /// The record's name.
        record: String,
    },

    /// A record's bytes are not those that were written.
    #[error("record {record} is damaged: its checksum is {found:08x}, expected {expected:08x}")]
    Checksum {
        /// The record's name.
        record: String,
        /// The checksum in the directory.
        expected: u32,
        /// The checksum of the bytes found.
        found: u32,
    },

    /// The record `byteorder` says neither `little` nor `big`.
    #[error("the byte order is {found:?}, expected \"little\" or \"big\"")]
    ByteOrder {
        /// What it says.
        found: String,
    },

    /// A compiled model, which holds code.
    #[error(
        "this is a TorchScript archive, which holds code: load it in Python and save its state_dict() with torch.save"
    )]
    TorchScript,

    /// An unknown version of the older format.
    #[error("the file's format version is {found}, but torch.save's older format is version 1001")]
    LegacyVersion {
        /// The version found.
        found: String,
    },

    /// An instruction that no state dict has.
    #[error("instruction {opcode:#04x} at byte {position} of the pickle is unknown or not used for tensors")]
    Opcode {
        /// The instruction.
        opcode: u8,
        /// Where in the pickle.
        position: usize,
    },

    /// An unknown pickle protocol.
    #[error("the pickle has protocol {found}, but 5 is the latest known: save it with pickle_protocol=2")]
    Protocol {
        /// The protocol.
        found: u8,
    },

    /// An instruction lacks its operand.
    #[error("instruction {opcode:#04x} at byte {position} of the pickle needs {needed}: the file is damaged")]
    Operand {
        /// The instruction.
        opcode: u8,
        /// Where in the pickle.
        position: usize,
        /// What it needs.
        needed: &'static str,
    },

    /// A string is not UTF-8.
    #[error("the string at byte {position} of the pickle is not UTF-8")]
    Text {
        /// Where in the pickle.
        position: usize,
    },

    /// The content would take more memory than the file's length justifies.
    #[error("the content would take more than {limit} bytes of memory, twice the file's length plus 1 GiB")]
    Memory {
        /// The limit in bytes.
        limit: usize,
    },

    /// There are no named tensors.
    #[error("{at} is {found}, expected a dict of tensors{hint}")]
    NoStateDict {
        /// Which part of the file.
        at: String,
        /// What was found there.
        found: String,
        /// What the file holds and what to do about it, or empty.
        hint: String,
    },

    /// A requested key is missing.
    #[error("the file has no {keys}{}", if there.is_empty() { String::new() } else { format!("; it has {there}") })]
    NoSuchKey {
        /// The keys, up to the first that is missing.
        keys: String,
        /// What is there instead.
        there: String,
    },

    /// More than one dict of named tensors, none of them under a usual key.
    #[error("the file has several state dicts: {keys}; choose one by its keys")]
    SeveralStateDicts {
        /// Where they are.
        keys: String,
    },

    /// A value of the state dict is not a tensor.
    #[error("{name} is {found}, expected a tensor")]
    NotATensor {
        /// The name.
        name: String,
        /// What was found.
        found: String,
    },

    /// A tensor of an unsupported kind or type.
    #[error("{tensor} is {found}, which is not supported: in Python, save {advice} instead")]
    UnsupportedTensor {
        /// The tensor's name.
        tensor: String,
        /// What it is.
        found: String,
        /// What to save instead.
        advice: String,
    },

    /// A tensor's description is not what PyTorch writes.
    #[error("{tensor}: {what} is {found}, expected {expected}")]
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

    /// A tensor extends beyond its storage.
    #[error(
        "{tensor}: shape {shape:?} with strides {strides:?} and offset {offset} exceeds its storage of {length} elements"
    )]
    OutsideStorage {
        /// The tensor's name.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Its strides, in elements.
        strides: Vec<usize>,
        /// The index of its first element.
        offset: usize,
        /// The storage's length in elements.
        length: usize,
    },

    /// A storage's record has the wrong length.
    #[error("storage {key} has {found} bytes, expected {elements} elements of type {dtype}")]
    StorageLength {
        /// The storage's key.
        key: String,
        /// Its number of elements, according to the pickle.
        elements: usize,
        /// Their type.
        dtype: DType,
        /// The bytes found.
        found: usize,
    },

    /// Two tensors have the same name.
    #[error("two tensors are named {name}")]
    DuplicateName {
        /// The name.
        name: String,
    },

    /// The number of bytes does not match the shape.
    #[error("{found} bytes do not match a tensor of type {dtype} and shape {shape:?}")]
    DataLength {
        /// The type.
        dtype: DType,
        /// The shape.
        shape: Vec<usize>,
        /// The bytes given.
        found: usize,
    },

    /// More than a zip archive holds without zip64.
    #[error("the archive would exceed 4 GiB, the most this crate writes: split the state dict")]
    TooLargeToWrite,

    /// An invalid name for the archive.
    #[error("{name:?} is not a valid archive name: use 1 to 200 bytes without a slash")]
    ArchiveName {
        /// The name given.
        name: String,
    },
}

/// A name from a file, shortened and escaped for an error message.
pub(crate) fn excerpt(text: &[u8]) -> String {
    // A longer name fills the screen and says no more.
    const LONGEST: usize = 80;
    let cut = &text[..text.len().min(LONGEST)];
    let mut shown: String = String::from_utf8_lossy(cut).chars().flat_map(char::escape_debug).collect();
    if cut.len() < text.len() {
        shown.push('…');
    }
    shown
}
