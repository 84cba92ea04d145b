//! Training on its own thread, with a visible loop.
//!
//! [`Trainer`] sets up training, with the built-in loop (forward, loss, backward, step) or one written in the notebook,
//! and starts it on a thread. The loop reports to a [`Run`]; later cells watch, pause, stop or wait for it through a
//! [`Training`]. The thread never prints: output between two cells would block it, or land in a figure. [`range_test`]
//! finds a suitable learning rate.

mod handle;
mod keeper;
mod place;
mod plan;
mod progress;
mod range_test;
mod resumption;
mod run;
mod shared;
mod trainer;

pub use crate::run_records::{EpochRecord, History, StepRecord};
pub(crate) use handle::Audience;
pub use handle::{Paused, Training};
pub use keeper::Checkpointed;
pub use progress::{Progress, Status};
pub use range_test::{RangeTest, RangeTestConfig, range_test};
pub use run::Run;
pub use trainer::{LearningRateSchedule, OwnLoop, StandardLoop, Trainer};
