//! What a notebook sees: how values show themselves, and everything that a notebook names.
//!
//! Only this module draws. What types of other modules show (`Dataset::gallery`, `History::figure`, …) is implemented
//! here, in a file named for the subject.

mod dataset;
pub mod display;
pub mod download_link;
mod evaluation;
pub mod exercise;
mod grad_cam;
mod model;
mod pictures;
pub mod plot;
mod predict;
pub mod prelude;
pub mod program;
mod run_records;
mod show;
#[cfg(doctest)]
mod solutions;
mod tensor;
mod training;

pub use evaluation::prediction_gallery;
pub use model::summary;
pub use training::overlay;
