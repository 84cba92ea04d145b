//! The commands, one module each. (`runs` and `predict` are programs of cifar-lab, which `cli` starts.)

pub mod bench;
pub mod bundle;
pub mod checks;
pub mod clean;
pub mod doctor;
pub mod export;
pub mod open;
pub mod run;
