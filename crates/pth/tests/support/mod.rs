//! Hand-made archives and parts of pickles.

/// A file of `tests/fixtures`.
#[allow(dead_code)]
pub fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// A zip archive of stored records.
#[allow(dead_code)]
pub fn zip(records: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in records {
        let name = format!("archive/{name}");
        let header = file.len() as u32;
        let mut common = vec![0; 10];
        common.extend(crc32fast::hash(bytes).to_le_bytes());
        common.extend((bytes.len() as u32).to_le_bytes());
        common.extend((bytes.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        file.extend(b"PK\x03\x04");
        file.extend(&common);
        file.extend(name.as_bytes());
        file.extend(*bytes);
        directory.extend(b"PK\x01\x02\0\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(header.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, count) = (file.len() as u32, records.len() as u16);
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend(count.to_le_bytes());
    file.extend(count.to_le_bytes());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    file
}

/// An archive with this pickle and one storage of 24 bytes, `0`.
#[allow(dead_code)]
pub fn archive(pickle: &[u8]) -> Vec<u8> {
    zip(&[("data.pkl", pickle), ("byteorder", b"little"), ("data/0", &[7; 24])])
}

/// The pickle of `{"t": tensor}`, given the storage's number of elements, the offset, shape and strides.
#[allow(dead_code)]
pub fn tensor_pickle(elements: i32, offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    [&b"\x80\x02}X\x01\0\0\0t"[..], &tensor(elements, offset, shape, strides), b"s."].concat()
}

/// The pickle of a dict of views of one storage, one per offset, named by their index in eight digits.
#[allow(dead_code)]
pub fn views_pickle(elements: i32, offsets: impl IntoIterator<Item = i32>, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let mut pickle = b"}(".to_vec();
    for (index, offset) in offsets.into_iter().enumerate() {
        pickle.extend(format!("U\x08{index:08}").into_bytes());
        pickle.extend(tensor(elements, offset, shape, strides));
    }
    pickle.extend(b"u.");
    pickle
}

/// The instructions that leave a tensor on the stack.
#[allow(dead_code)]
pub fn tensor(elements: i32, offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let mut pickle = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage".to_vec();
    pickle.extend(b"ctorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuJ");
    pickle.extend(elements.to_le_bytes());
    pickle.extend(b"tQJ");
    pickle.extend(offset.to_le_bytes());
    for numbers in [shape, strides] {
        pickle.push(b'(');
        for number in numbers {
            pickle.push(b'J');
            pickle.extend(number.to_le_bytes());
        }
        pickle.push(b't');
    }
    pickle.extend(b"\x89}tR");
    pickle
}
