//! MD5 sums as text.

use md5::{Digest, Md5};

/// The finished sum in 32 hexadecimal digits.
pub(crate) fn hexadecimal(sum: Md5) -> String {
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
