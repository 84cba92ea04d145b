//! CNN training operations for candle that are right and fast.
pub use candle_core as candle;
pub use candle_nn;
