//! The solutions of the notebooks' exercises, compiled and run as doctests.

/// Solutions of notebook 01.
#[doc = include_str!("../../../../notebooks/solutions/01_data.md")]
pub mod data {}

/// Solutions of notebook 02.
#[doc = include_str!("../../../../notebooks/solutions/02_network.md")]
pub mod network {}

/// Solutions of notebook 03.
#[doc = include_str!("../../../../notebooks/solutions/03_training.md")]
pub mod training {}

/// Solutions of notebook 04.
#[doc = include_str!("../../../../notebooks/solutions/04_evaluation.md")]
pub mod evaluation {}

/// Solutions of notebook 05.
#[doc = include_str!("../../../../notebooks/solutions/05_export.md")]
pub mod export {}

/// Solutions of notebook 06.
#[doc = include_str!("../../../../notebooks/solutions/06_further.md")]
pub mod further {}

/// Solutions of notebook 07.
#[doc = include_str!("../../../../notebooks/solutions/07_record.md")]
pub mod record {}
