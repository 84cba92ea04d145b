//! What notebooks show: how this crate's values and candle's display themselves.

mod feature_maps;
mod pictures;
mod show;
mod tensor;
mod values;

pub use feature_maps::FeatureMaps;
pub use pictures::FromTensor;
pub(crate) use pictures::pictures;
pub use show::Show;
