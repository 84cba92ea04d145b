//! Writes a zip archive byte for byte as PyTorch does (`caffe2/serialize/inline_container.cc`): records are stored
//! uncompressed, start at multiples of 64 bytes, and are followed by their lengths.

use std::io::Write;

use crate::error::{Error, Result};

/// A record's bytes start at a multiple of this, so that a memory-mapped file can be used in place.
pub(crate) const ALIGNMENT: usize = 64;
/// Names are UTF-8.
const FLAG_UTF8: u16 = 1 << 11;
/// Checksum and lengths follow the bytes.
const FLAG_DESCRIPTOR: u16 = 1 << 3;

struct Entry {
    name: String,
    header: u32,
    length: u32,
    checksum: u32,
    flags: u16,
}

/// An archive being written.
pub(crate) struct Archive<'n, W> {
    to: W,
    name: &'n str,
    at: usize,
    entries: Vec<Entry>,
    /// The checksums of all non-empty records, combined as PyTorch does.
    checksums: u64,
}

impl<'n, W: Write> Archive<'n, W> {
    pub(crate) fn new(name: &'n str, to: W) -> Self {
        Self { to, name, at: 0, entries: Vec::new(), checksums: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.at += bytes.len();
        Ok(self.to.write_all(bytes)?)
    }

    /// Adds a record.
    pub(crate) fn record(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let name = format!("{}/{name}", self.name);
        let header = u32::try_from(self.at).map_err(|_| Error::TooLargeToWrite)?;
        let length = u32::try_from(bytes.len()).map_err(|_| Error::TooLargeToWrite)?;
        let checksum = crc32fast::hash(bytes);
        let flags = if bytes.is_empty() { FLAG_UTF8 } else { FLAG_UTF8 | FLAG_DESCRIPTOR };
        // A local header takes 30 bytes, the extra field's header 4.
        let padding = (self.at + 30 + name.len() + 4).wrapping_neg() % ALIGNMENT;
        let mut head = Vec::with_capacity(2 * ALIGNMENT + name.len());
        head.extend(b"PK\x03\x04\0\0");
        head.extend(flags.to_le_bytes());
        // Method, time and date, and the checksum and lengths, which follow the record.
        head.extend([0; 18]);
        // Fits: the archive's name has at most 200 bytes.
        head.extend((name.len() as u16).to_le_bytes());
        head.extend((padding as u16 + 4).to_le_bytes());
        head.extend(name.as_bytes());
        head.extend(b"FB");
        head.extend((padding as u16).to_le_bytes());
        head.resize(head.len() + padding, b'Z');
        self.put(&head)?;
        self.put(bytes)?;
        if !bytes.is_empty() {
            self.put(b"PK\x07\x08")?;
            for number in [checksum, length, length] {
                self.put(&number.to_le_bytes())?;
            }
            self.checksums = combine(self.checksums, checksum.into());
        }
        self.entries.push(Entry { name, header, length, checksum, flags });
        Ok(())
    }

    /// A fingerprint of the records' names and bytes, 40 digits. PyTorch's first half depends on its C++ library's hash
    /// function and hash table, so it differs between systems, and from this one.
    pub(crate) fn fingerprint(&self) -> String {
        let names =
            self.entries.iter().fold(0, |seed, entry| combine(seed, crc32fast::hash(entry.name.as_bytes()).into()));
        format!("{names:020}{:020}", self.checksums)
    }

    /// Writes the directory and the end records.
    pub(crate) fn finish(mut self) -> Result<()> {
        let start = self.at;
        for entry in std::mem::take(&mut self.entries) {
            let mut head = Vec::with_capacity(46 + entry.name.len());
            head.extend(b"PK\x01\x02\0\0\0\0");
            head.extend(entry.flags.to_le_bytes());
            head.extend([0; 6]);
            for number in [entry.checksum, entry.length, entry.length] {
                head.extend(number.to_le_bytes());
            }
            head.extend((entry.name.len() as u16).to_le_bytes());
            head.extend([0; 12]);
            head.extend(entry.header.to_le_bytes());
            head.extend(entry.name.as_bytes());
            self.put(&head)?;
            self.entries.push(entry);
        }
        let count = self.entries.len();
        let (end, length) = (self.at, self.at - start);
        let start_32 = u32::try_from(start).map_err(|_| Error::TooLargeToWrite)?;
        let length_32 = u32::try_from(length).map_err(|_| Error::TooLargeToWrite)?;
        // PyTorch always writes all three: the 64-bit end record, its locator and the end record.
        self.put(b"PK\x06\x06")?;
        self.put(&44u64.to_le_bytes())?;
        // Made by version 3.0 on Unix; needs version 4.5; disk numbers 0 and 0.
        self.put(&[0x1e, 3, 0x2d, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
        for number in [count, count, length, start] {
            self.put(&(number as u64).to_le_bytes())?;
        }
        self.put(b"PK\x06\x07\0\0\0\0")?;
        self.put(&(end as u64).to_le_bytes())?;
        self.put(&1u32.to_le_bytes())?;
        self.put(b"PK\x05\x06\0\0\0\0")?;
        // A count beyond 16 bits stands only in the 64-bit record.
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        self.put(&count.to_le_bytes())?;
        self.put(&count.to_le_bytes())?;
        self.put(&length_32.to_le_bytes())?;
        self.put(&start_32.to_le_bytes())?;
        self.put(&[0, 0])?;
        Ok(self.to.flush()?)
    }
}

/// `at::hash_combine` of PyTorch.
fn combine(seed: u64, value: u64) -> u64 {
    seed ^ value.wrapping_add(0x9e37_79b9).wrapping_add(seed << 6).wrapping_add(seed >> 2)
}
