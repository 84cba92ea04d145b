//! Training on a thread of its own, with the loop in sight.
//!
//! The loop (forward, loss, backward, step) is a closure that the notebook writes; [`Training::start`] runs it on a
//! thread, hands it a [`Run`] to report to, and returns at once. Further cells then watch, pause, stop or wait through
//! the [`Training`] handle. The thread never prints: output between two cells would block it, or land in a picture.
//! [`Trainer`] is the same loop, ready made, for when it has been understood; [`range_test`] finds how large a step a
//! network bears.

mod handle;
mod progress;
mod range_test;
mod run;
mod trainer;

pub use crate::run_records::{EpochRecord, History, StepRecord};
pub use handle::{Paused, Training};
pub(crate) use progress::duration_text;
pub use progress::{Progress, Status};
pub use range_test::{RangeTest, range_test};
pub use run::{Plan, Run};
pub use trainer::Trainer;
