//! The records of a zip archive of stored (uncompressed) files, in place.
//!
//! Not a zip library, because records are returned as slices of the file, and a hostile directory must not take more
//! memory than the file. Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3.

use crate::budget::Budget;
use crate::cursor::Cursor;
use crate::error::{Error, Result, excerpt};

const LOCAL_HEADER: u32 = 0x0403_4b50;
const DIRECTORY_HEADER: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const END_64_LOCATOR: u32 = 0x0706_4b50;
/// The length of the end record, without its comment.
const END_LENGTH: usize = 22;
/// A comment's length is a 16-bit number.
const LONGEST_COMMENT: usize = u16::MAX as usize;
/// The length of a directory entry, without its name.
const DIRECTORY_ENTRY: usize = 46;
/// The extra field for numbers that don't fit in 32 bits.
const EXTRA_64: u16 = 1;

/// Off under the fuzzer, which would not find valid checksums.
#[allow(unexpected_cfgs)]
const CHECK_SUMS: bool = !cfg!(fuzzing);

#[derive(Debug)]
struct Record<'a> {
    /// Without the archive's name and slash.
    name: &'a [u8],
    header: u64,
    length: u64,
    checksum: u32,
    method: u16,
    encrypted: bool,
    checked: bool,
}

/// The records of an archive.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    file: &'a [u8],
    /// Sorted by name.
    records: Vec<Record<'a>>,
}

impl<'a> Records<'a> {
    /// Reads the directory.
    pub(crate) fn open(file: &'a [u8], budget: &mut Budget) -> Result<Self> {
        let (count, start) = find_directory(file)?;
        let mut cursor = Cursor { bytes: file, at: usize::try_from(start).unwrap_or(usize::MAX) };
        // An entry takes bytes of the file, so the file's length bounds what a false count can reserve.
        let possible = file.len().saturating_sub(cursor.at) / DIRECTORY_ENTRY;
        let mut records = Vec::new();
        budget.reserve(&mut records, usize::try_from(count).unwrap_or(usize::MAX).min(possible))?;
        let mut folder: Option<&[u8]> = None;
        for _ in 0..count {
            let mut record = directory_entry(&mut cursor)?;
            // As in PyTorch, the archive's name is what precedes the first slash of the first record.
            let folder = *folder.get_or_insert_with(|| {
                &record.name[..record.name.iter().position(|&byte| byte == b'/').map_or(0, |slash| slash + 1)]
            });
            if let Some(name) = record.name.strip_prefix(folder) {
                record.name = name;
                budget.push(&mut records, record)?;
            }
        }
        records.sort_unstable_by_key(|record| record.name);
        if let Some(pair) = records.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(Error::DuplicateRecord { record: excerpt(pair[0].name) });
        }
        Ok(Self { file, records })
    }

    /// Whether a record has this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.records.binary_search_by_key(&name.as_bytes(), |record| record.name).is_ok()
    }

    /// A record's bytes.
    pub(crate) fn get(&mut self, name: &str) -> Result<&'a [u8]> {
        let index = self
            .records
            .binary_search_by_key(&name.as_bytes(), |record| record.name)
            .map_err(|_| Error::MissingRecord { record: excerpt(name.as_bytes()) })?;
        let record = &mut self.records[index];
        if record.encrypted {
            return Err(Error::Encrypted { record: excerpt(record.name) });
        }
        if record.method != 0 {
            return Err(Error::Compressed { record: excerpt(record.name), method: record.method });
        }
        let what = "a record's header";
        let mut cursor = Cursor { bytes: self.file, at: usize::try_from(record.header).unwrap_or(usize::MAX) };
        if cursor.u32(what)? != LOCAL_HEADER {
            return Err(Error::Signature { what, position: record.header });
        }
        // These fields are in the directory too.
        cursor.take(22, what)?;
        let (name_length, extra_length) = (cursor.u16(what)?, cursor.u16(what)?);
        cursor.take(usize::from(name_length) + usize::from(extra_length), what)?;
        let bytes = cursor.take(usize::try_from(record.length).unwrap_or(usize::MAX), "a record")?;
        // Only once: many tensors may share a record.
        // `set_crc32_options(False)` makes PyTorch write 0.
        if !record.checked && record.checksum != 0 && CHECK_SUMS {
            let found = crc32fast::hash(bytes);
            if found != record.checksum {
                let record = excerpt(record.name);
                return Err(Error::Checksum { record, expected: self.records[index].checksum, found });
            }
            record.checked = true;
        }
        Ok(bytes)
    }
}

/// The number of records and the start of the directory.
fn find_directory(file: &[u8]) -> Result<(u64, u64)> {
    let last = file.len().checked_sub(END_LENGTH).ok_or(Error::NoDirectory)?;
    let first = last.saturating_sub(LONGEST_COMMENT);
    let end = (first..=last).rev().find(|&at| file[at..].starts_with(&END.to_le_bytes())).ok_or(Error::NoDirectory)?;
    let what = "the directory's end record";
    let mut cursor = Cursor { bytes: file, at: end + 10 };
    let count = cursor.u16(what)?;
    cursor.take(4, what)?;
    let start = cursor.u32(what)?;
    if count < u16::MAX && start < u32::MAX {
        return Ok((count.into(), start.into()));
    }
    // Larger numbers are in the 64-bit end record; its locator comes right before this one.
    let what = "the directory's 64-bit end record";
    let locator = end.checked_sub(20).ok_or(Error::NoDirectory)?;
    let mut cursor = Cursor { bytes: file, at: locator };
    if cursor.u32(what)? != END_64_LOCATOR {
        return Err(Error::Signature { what, position: locator as u64 });
    }
    cursor.take(4, what)?;
    let position = cursor.u64(what)?;
    let mut cursor = Cursor { bytes: file, at: usize::try_from(position).unwrap_or(usize::MAX) };
    if cursor.u32(what)? != END_64 {
        return Err(Error::Signature { what, position });
    }
    cursor.take(28, what)?;
    let count = cursor.u64(what)?;
    cursor.take(8, what)?;
    Ok((count, cursor.u64(what)?))
}

fn directory_entry<'a>(cursor: &mut Cursor<'a>) -> Result<Record<'a>> {
    let what = "a directory entry";
    let position = cursor.at as u64;
    if cursor.u32(what)? != DIRECTORY_HEADER {
        return Err(Error::Signature { what, position });
    }
    cursor.take(4, what)?;
    let (flags, method) = (cursor.u16(what)?, cursor.u16(what)?);
    cursor.take(4, what)?;
    let checksum = cursor.u32(what)?;
    let (compressed, length) = (cursor.u32(what)?, cursor.u32(what)?);
    let (name_length, extra_length, comment_length) = (cursor.u16(what)?, cursor.u16(what)?, cursor.u16(what)?);
    cursor.take(8, what)?;
    let header = cursor.u32(what)?;
    let name = cursor.take(name_length.into(), what)?;
    let mut extra = Cursor { bytes: cursor.take(extra_length.into(), what)?, at: 0 };
    cursor.take(comment_length.into(), what)?;
    let (mut length, mut compressed, mut header) = (u64::from(length), u64::from(compressed), u64::from(header));
    while extra.at < extra.bytes.len() {
        let (id, size) = (extra.u16(what)?, extra.u16(what)?);
        let mut field = Cursor { bytes: extra.take(size.into(), what)?, at: 0 };
        if id == EXTRA_64 {
            for value in [&mut length, &mut compressed, &mut header] {
                if *value == u32::MAX.into() {
                    *value = field.u64(what)?;
                }
            }
        }
    }
    // Bit 0 means encrypted. A stored record's two lengths are equal.
    let encrypted = flags & 1 == 1;
    let method = if method == 0 && compressed != length && !encrypted {
        return Err(Error::Signature { what: "stored record with equal lengths", position });
    } else {
        method
    };
    Ok(Record { name, header, length, checksum, method, encrypted, checked: false })
}
