//! What a network says of pictures that come from anywhere: [`Predictor`].
//!
//! | file | what it holds |
//! |---|---|
//! | `predictor.rs` | [`Predictor`]: a network with all that it takes to ask it |
//! | `prediction.rs` | [`PicturePrediction`], [`PicturePredictions`]: what it says |
//!
//! How a picture is brought to the network's size is told in [`Predictor::predict`].

mod prediction;
mod predictor;

pub use prediction::{ClassProbability, PicturePrediction, PicturePredictions, Refused};
pub(crate) use prediction::{NAMED, fitted};
pub use predictor::Predictor;
