//! The original's network, and the recorded forward pass of any network.

mod forward_trace;
mod net;
mod test_time_flip;

pub(crate) use forward_trace::title;
pub use forward_trace::{ForwardTrace, forward_trace};
pub use net::{Net, NetConfig};
pub use test_time_flip::TestTimeFlip;
