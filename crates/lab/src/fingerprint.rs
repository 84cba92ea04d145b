//! A hash for folder names that, unlike the standard library's, does not change with the compiler.

/// 64-bit FNV-1a by Fowler, Noll and Vo (draft-eastlake-fnv). Not collision-resistant.
pub struct Fingerprint(u64);

impl Default for Fingerprint {
    /// The offset basis.
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    /// Adds a part with its length, so that "ab", "c" differs from "a", "bc".
    pub fn add(&mut self, part: &[u8]) {
        for &byte in (part.len() as u64).to_le_bytes().iter().chain(part) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The fingerprint of all parts.
    pub fn finish(&self) -> u64 {
        self.0
    }

    /// The fingerprint of these parts.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
        let mut fingerprint = Self::default();
        parts.into_iter().for_each(|part| fingerprint.add(part));
        fingerprint.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_never_changes() {
        // From FNV's definition in Python, over the length in 8 bytes and the text.
        assert_eq!(Fingerprint::of([]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(Fingerprint::of([&b"a"[..]]), 0x529a_4ddc_8ff5_6bbf);
        assert_ne!(Fingerprint::of([&b"ab"[..]]), Fingerprint::of([&b"a"[..], b"b"]));
    }
}
