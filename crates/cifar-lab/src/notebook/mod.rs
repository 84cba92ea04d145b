//! What notebooks show and call: how values look, and everything that a notebook names.
//!
//! Only this storey draws. What a type of a lower storey shows (`Dataset::gallery`, `History::picture`, …) is written
//! here, in the file named for it.

mod dataset;
pub mod download_link;
mod evaluation;
pub mod exercise;
mod grad_cam;
mod model;
mod predict;
pub mod prelude;
pub mod program;
mod run_records;
#[cfg(doctest)]
mod solutions;
mod training;

pub use evaluation::prediction_gallery;
pub use training::overlay;
