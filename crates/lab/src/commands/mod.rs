//! What each verb of `cargo lab` does. `cargo lab runs` and `cargo lab predict` only start programs of cifar-lab, which
//! `cli` does itself.

pub mod bench;
pub mod bundle;
pub mod checks;
pub mod doctor;
pub mod export;
pub mod open;
pub mod run;
