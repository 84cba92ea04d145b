//! The format of `torch.save` before PyTorch 1.6: five pickles (magic number, version, system info, the object, the
//! storages' keys), then each storage's length and bytes. Source: `_legacy_save` in `torch/serialization.py`.

use crate::budget::Budget;
use crate::cursor::Cursor;
use crate::error::{Error, Result, excerpt};
use crate::pickle::Pickle;
use crate::storage::{Elements, StorageId};

/// The magic number 0x1950a86a20f9469cfc6c as little-endian bytes and, for protocols 0 and 1, as decimal digits.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const MAGIC_DIGITS: &str = "119547037146038801333356";
/// The only version ever used.
const VERSION: i64 = 1001;

pub(crate) struct Legacy<'a> {
    pub(crate) object: Pickle<'a>,
    /// Sorted by key.
    storages: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Legacy<'a> {
    pub(crate) fn read(file: &'a [u8], budget: &mut Budget) -> Result<Self> {
        let mut at = 0;
        let mut next = |budget: &mut Budget| {
            let pickle = Pickle::read_within(&file[at..], budget)?;
            at += pickle.length();
            Ok::<_, Error>(pickle)
        };
        let magic = next(budget)?;
        if !magic.root().is_big_integer(&MAGIC, MAGIC_DIGITS) {
            let found =
                format!("it is a pickle of {}, written by pickle.dump or another program", magic.root().describe());
            return Err(Error::UnknownFormat { found });
        }
        let version = next(budget)?;
        if version.root().as_i64() != Some(VERSION) {
            let found = version.root().as_i64().map_or(version.root().describe(), |version| version.to_string());
            return Err(Error::LegacyVersion { found });
        }
        // The system info names its byte order, but PyTorch writes storages as little-endian everywhere.
        next(budget)?;
        let object = next(budget)?;
        let keys = next(budget)?;
        // A storage's length is in elements, whose size only the object's pickle tells.
        let mut types: Vec<(&str, Elements)> = Vec::new();
        for id in object.persistent_ids().filter(|id| StorageId::is_one(*id)) {
            let id = StorageId::read(id)?;
            budget.push(&mut types, (id.key, id.elements))?;
        }
        types.sort_unstable_by_key(|&(key, _)| key);
        let mut cursor = Cursor { bytes: file, at };
        let mut storages = Vec::new();
        for key in keys.root().items().into_iter().flatten() {
            let key = key.as_text().unwrap_or("");
            let found = types.binary_search_by_key(&key, |&(key, _)| key);
            let missing = |_| Error::MissingRecord { record: excerpt(key.as_bytes()) };
            let elements = types[found.map_err(missing)?].1;
            let count = usize::try_from(cursor.u64("a storage's length")?).unwrap_or(usize::MAX);
            let bytes = cursor.take(count.saturating_mul(elements.size()), "a storage")?;
            budget.push(&mut storages, (key, bytes))?;
        }
        storages.sort_unstable_by_key(|&(key, _)| key);
        Ok(Self { object, storages })
    }

    pub(crate) fn storage(&self, key: &str) -> Result<&'a [u8]> {
        let found = self.storages.binary_search_by_key(&key, |&(key, _)| key);
        let index = found.map_err(|_| Error::MissingRecord { record: excerpt(key.as_bytes()) })?;
        Ok(self.storages[index].1)
    }
}
