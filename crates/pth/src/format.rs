//! What a file is, by its first bytes.

/// How a zip archive starts.
pub(crate) const ZIP: &[u8] = b"PK";

/// How other files start that are taken for weights, what they are, and what to do.
const OTHERS: [(&[u8], &str); 14] = [
    (b"version https://git-lfs", "it is the pointer that Git LFS leaves in place of a file: run `git lfs pull`"),
    (
        b"<",
        "it is a web page or XML, as a server sends in place of a file: download it again, from the file's own address",
    ),
    (b"\x1f\x8b", "it is compressed with gzip: unpack it first"),
    (b"BZh", "it is compressed with bzip2: unpack it first"),
    (b"\xfd7zXZ", "it is compressed with xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd: unpack it first"),
    (b"7z\xbc\xaf", "it is a 7z archive: unpack it first"),
    (b"Rar!", "it is a rar archive: unpack it first"),
    (b"\x89HDF", "it is an HDF5 file, as Keras writes: convert it in Python"),
    (b"\x93NUMPY", "it is a NumPy array: in Python, save {\"name\": torch.from_numpy(array)} with torch.save"),
    (b"GGUF", "it is a GGUF file, as llama.cpp has: it holds no state dict of PyTorch"),
    (b"\x08", "it looks like ONNX, which holds a graph: export a state dict in Python"),
    (b"{", "it is JSON, and holds no tensors"),
    (
        b"\x00\x00\x00\x00\x00\x00\x00\x00",
        "it begins with zeros, as a download that was cut leaves: get the file again",
    ),
];

/// Whether these first bytes of a file, 16 or more where it has them, are those of one that
/// [`StateDict::read`](crate::StateDict::read) reads: a zip archive, or the pickle of the older format in whatever
/// protocol.
///
/// ```
/// assert!(pth::is_pth(b"PK\x03\x04"));
/// assert!(!pth::is_pth(b"GIF89a"));
/// ```
pub fn is_pth(start: &[u8]) -> bool {
    start.starts_with(ZIP) || is_legacy(start)
}

/// Whether a file starts as safetensors does: with its header's length in 8 bytes, four of them zeros below 4 GiB, then
/// JSON. No pickle of PyTorch's has both.
fn is_safetensors(start: &[u8]) -> bool {
    matches!(start, [_, _, _, _, 0, 0, 0, 0, b'{', ..])
}

/// Whether a file starts as a pickle does: with its protocol, or, in protocols 0 and 1, with the digits of an integer.
pub(crate) fn is_legacy(start: &[u8]) -> bool {
    match start {
        // A header's length may begin with 0x80 too.
        start if is_safetensors(start) => false,
        // 5 is the latest; one that is yet to come is named as such.
        [0x80, protocol, ..] => *protocol < 0x20,
        [b'L', digits @ ..] => digits.first().is_some_and(u8::is_ascii_digit),
        _ => false,
    }
}

/// What a file is that is not one of torch.save.
pub(crate) fn guess(file: &[u8]) -> String {
    if file.is_empty() {
        return "it is empty: get the file again".into();
    }
    if is_safetensors(file) {
        return "it is a safetensors file".into();
    }
    // The tar archive that torch.save wrote in 2016, and any other.
    if file.get(257..262) == Some(b"ustar") {
        return "it is a tar archive: unpack it first; if PyTorch of 2016 wrote it, save it again with PyTorch 1 or 2"
            .into();
    }
    match OTHERS.iter().find(|(start, _)| file.trim_ascii_start().starts_with(start) || file.starts_with(start)) {
        Some((_, found)) => (*found).into(),
        None => format!("it starts with {:02x?}, where an archive has PK and a pickle 80", &file[..file.len().min(8)]),
    }
}
