//! What notebooks show and call: how values look, and everything that a notebook names.
//!
//! Only this storey draws. What a type of a lower storey shows (`Dataset::gallery`, `History::figure`, …) is written
//! here, in the file named for it.

mod dataset;
pub mod display;
pub mod download_link;
mod evaluation;
pub mod exercise;
mod feature_maps;
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
mod values;

pub use evaluation::prediction_gallery;
pub use training::overlay;
