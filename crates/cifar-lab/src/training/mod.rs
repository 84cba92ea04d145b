//! Training on a thread of its own, with the loop in sight.
//!
//! [`Trainer`] sets a training up, with the loop (forward, loss, backward, step) ready made or written in the notebook, and
//! starts it on a thread. The loop reports to a [`Run`]; further cells watch, pause, stop or wait through the [`Training`].
//! The thread never prints: output between two cells would block it, or land in a figure. [`range_test`] finds how large a
//! step a network bears, [`overlay`] lays the curves of several trainings over each other.

mod curves;
mod handle;
mod overlay;
mod progress;
mod range_test;
pub(crate) mod record;
mod run;
mod trainer;

pub use curves::{EpochRecord, History, StepRecord};
pub use handle::{Paused, Training};
pub use overlay::overlay;
pub(crate) use progress::duration_text;
pub use progress::{Progress, Status};
pub use range_test::{RangeTest, range_test};
pub use run::Run;
pub use trainer::{LearningRateSchedule, OwnLoop, StandardLoop, Trainer};
