//! The command line of `runs`, which `cargo lab runs` also parses, before it compiles anything.

use std::path::PathBuf;

/// Lists all training runs
#[derive(clap::Args)]
pub struct Options {
    /// Folder to search [default: the repository's runs/]
    pub folder: Option<PathBuf>,
    /// List only runs with TEXT in their name or folder
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub name: String,
    /// Also plot their test accuracy by epoch
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}
