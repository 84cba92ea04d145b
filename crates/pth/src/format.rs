//! Recognizes a file by its first bytes.

/// How a zip archive starts.
pub(crate) const ZIP: &[u8] = b"PK";

/// How files start that are mistaken for weights, what they are, and what to do.
const OTHERS: [(&[u8], &str); 14] = [
    (b"version https://git-lfs", "it is a Git LFS pointer, not the file itself: run `git lfs pull`"),
    (
        b"<",
        "it is a web page or XML, which a server sent instead of the file: download it again from the file's own URL",
    ),
    (b"\x1f\x8b", "it is compressed with gzip: unpack it first"),
    (b"BZh", "it is compressed with bzip2: unpack it first"),
    (b"\xfd7zXZ", "it is compressed with xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd: unpack it first"),
    (b"7z\xbc\xaf", "it is a 7z archive: unpack it first"),
    (b"Rar!", "it is a rar archive: unpack it first"),
    (b"\x89HDF", "it is an HDF5 file, as Keras writes them: convert it in Python"),
    (b"\x93NUMPY", "it is a NumPy array: in Python, save {\"name\": torch.from_numpy(array)} with torch.save"),
    (b"GGUF", "it is a GGUF file, as llama.cpp uses: it holds no PyTorch state dict"),
    (b"\x08", "it looks like ONNX, which holds a graph: export a state dict in Python"),
    (b"{", "it is JSON, which holds no tensors"),
    (b"\x00\x00\x00\x00\x00\x00\x00\x00", "it starts with zeros, as an interrupted download may: download it again"),
];

/// Whether a file that starts with these bytes (at least 16, if it has them) is one for
/// [`StateDict::read`](crate::StateDict::read): a zip archive, or a pickle of the older format in any protocol.
///
/// ```
/// assert!(pth::is_pth(b"PK\x03\x04"));
/// assert!(!pth::is_pth(b"GIF89a"));
/// ```
pub fn is_pth(start: &[u8]) -> bool {
    start.starts_with(ZIP) || is_legacy(start)
}

/// Whether a file starts like safetensors: the header's length in 8 bytes (the upper four zero below 4 GiB), then JSON.
/// No PyTorch pickle has both.
fn is_safetensors(start: &[u8]) -> bool {
    matches!(start, [_, _, _, _, 0, 0, 0, 0, b'{', ..])
}

/// Whether a file starts like a pickle: with its protocol or, in protocols 0 and 1, with an integer's digits.
pub(crate) fn is_legacy(start: &[u8]) -> bool {
    match start {
        // The header's length may start with 0x80 too.
        start if is_safetensors(start) => false,
        // 5 is the latest; an unknown one gets an error that names it.
        [0x80, protocol, ..] => *protocol < 0x20,
        [b'L', digits @ ..] => digits.first().is_some_and(u8::is_ascii_digit),
        _ => false,
    }
}

/// What a file is that torch.save did not write.
pub(crate) fn guess(file: &[u8]) -> String {
    if file.is_empty() {
        return "it is empty: download it again".into();
    }
    if is_safetensors(file) {
        return "it is a safetensors file".into();
    }
    // The tar archive that torch.save wrote in 2016, and any other.
    if file.get(257..262) == Some(b"ustar") {
        return "it is a tar archive: unpack it first; if PyTorch wrote it in 2016, save it again with PyTorch 1 or 2"
            .into();
    }
    match OTHERS.iter().find(|(start, _)| file.trim_ascii_start().starts_with(start) || file.starts_with(start)) {
        Some((_, found)) => (*found).into(),
        None => {
            format!("it starts with {:02x?}; an archive starts with PK, a pickle with 80", &file[..file.len().min(8)])
        }
    }
}
