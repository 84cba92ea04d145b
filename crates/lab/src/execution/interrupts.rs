//! Ctrl-C while notebooks run.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use super::client::Orders;
use crate::error::{Error, Result};

/// What Ctrl-C stops, and whether it has been pressed.
#[derive(Clone, Default)]
pub struct Interrupts(Arc<Mutex<(bool, Vec<Orders>)>>);

impl Interrupts {
    /// Starts watching for Ctrl-C and termination signals. A second one ends this program at once; the client then sees its
    /// input close, and ends the kernel.
    pub fn watch() -> Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let own = Self::default();
        let caught = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal));
        let mut signals = signal_hook::iterator::Signals::new(caught).map_err(Error::file("catch", "signals"))?;
        let shared = own.clone();
        std::thread::spawn(move || {
            for signal in signals.forever() {
                let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
                if state.0 {
                    std::process::exit(128 + signal);
                }
                state.0 = true;
                // SIGHUP means that the terminal was closed.
                let _ = writeln!(std::io::stderr(), "\nStopping the kernel; the cells executed so far are kept.");
                if state.1.is_empty() {
                    std::process::exit(128 + signal);
                }
                state.1.iter().for_each(Orders::stop);
            }
        });
        Ok(own)
    }

    /// Whether it has been pressed.
    pub fn happened(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    pub fn stops(&self, orders: &Orders) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.push(orders.clone());
    }

    pub fn forgets(&self, orders: &Orders) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.retain(|own| !own.is(orders));
    }
}

/// Whether this program was started to ignore `signal`, as by nohup.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}
