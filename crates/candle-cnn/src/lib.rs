//! CNN training operations for candle that are right and fast.
//!
//! | module | what it holds |
//! |---|---|
//! | [`parameters`] | a network's parameters: seeded, ordered, behind a `VarBuilder` |
//! | [`random`] | random streams keyed by seed and purpose |
//! | [`trace`] | the record of a forward pass, layer by layer |

pub mod parameters;
pub mod random;
pub mod trace;
