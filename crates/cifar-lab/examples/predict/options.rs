//! The command line of `predict`, which `cargo lab predict` reads too, before it compiles anything.

use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Names what a saved network sees in pictures
#[derive(clap::Args)]
pub struct Options {
    /// How many classes to name for each picture
    #[arg(long, value_name = "K", default_value = "3")]
    pub top: NonZeroUsize,
    /// Where to compute: auto, cpu, cuda:0, …
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub device: String,
    /// A .pth with its .json beside it, or a .safetensors
    pub weights: PathBuf,
    /// JPEG or PNG files of any size, or folders of them
    #[arg(required = true, value_name = "PICTURE")]
    pub pictures: Vec<PathBuf>,
}
