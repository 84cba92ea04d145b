//! The command line of `predict`, which `cargo lab predict` also parses, before it compiles anything.

use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Classifies images with a saved network
#[derive(clap::Args)]
pub struct Options {
    /// How many classes to list per image
    #[arg(long, value_name = "K", default_value = "3")]
    pub top: NonZeroUsize,
    /// The device: auto, cpu, cuda:0, …
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub device: String,
    /// A .pth file with its .json next to it, or a .safetensors file
    pub weights: PathBuf,
    /// JPEG or PNG files of any size, or folders of them
    #[arg(required = true, value_name = "PICTURE")]
    pub pictures: Vec<PathBuf>,
}
