//! Predictions for pictures from any source: [`Predictor`].
//!
//! | file | what it holds |
//! |---|---|
//! | `predictor.rs` | [`Predictor`]: a network, its normalization and its classes |
//! | `prediction.rs` | [`PicturePrediction`], [`PicturePredictions`] |
//!
//! [`Predictor::predict`] describes how a picture is cropped and resized for the network.

mod prediction;
mod predictor;

pub use prediction::{ClassProbability, PicturePrediction, PicturePredictions, Refused};
pub(crate) use prediction::{NAMED, fitted};
pub use predictor::Predictor;
