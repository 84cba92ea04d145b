//! Networks: the original's, and what can be said of any network from an actual forward pass.

mod dry_run;
mod net;
mod test_time_flip;

pub(crate) use dry_run::title;
pub use dry_run::{DryRun, dry_run, forward_trace};
pub use net::{Net, NetConfig};
pub use test_time_flip::TestTimeFlip;
