//! The original's network, the record's, and the recorded forward pass of any network.

mod airbench;
mod forward_trace;
mod net;
mod test_time_flip;
mod test_time_views;

pub use airbench::{AirbenchConfig, AirbenchNet, AirbenchParameters};
pub(crate) use forward_trace::title;
pub use forward_trace::{ForwardTrace, forward_trace};
pub use net::{Net, NetConfig};
pub use test_time_flip::TestTimeFlip;
pub use test_time_views::TestTimeViews;
