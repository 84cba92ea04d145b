//! What several test files share.

use candle_core::Device;
use cifar_lab::device::choose_device;

/// The first GPU; where there is none, a line says that the test is skipped.
pub fn gpu() -> Option<Device> {
    choose_device("cuda").map_err(|reason| eprintln!("skipped: no GPU ({reason})")).ok()
}
