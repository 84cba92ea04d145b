//! What executed notebooks are checked for.
//!
//! - [`outputs`]: pictures that decode and are not blank, no errors, a size that can be committed.
//! - [`expectation`]: the small settings of a notebook's test, and numbers that must lie in a range.
//! - [`kernel`]: tests of the kernel itself.
//! - [`listing`]: two listings of numbers that must agree.
//! - [`program`]: an exported notebook beside the notebook.

pub mod expectation;
pub mod kernel;
pub mod listing;
pub mod outputs;
pub mod program;
