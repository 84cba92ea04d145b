//! What the front is told.

use tokio::sync::OwnedSemaphorePermit;

use super::message::Message;
use super::sockets::{Channel, Connection, Evcxr};
use crate::error::Result;

/// What the front is told.
pub enum Event {
    /// A client asks something.
    Asked(Channel, Message),
    /// evcxr has been started, and will listen there.
    Started(Connection),
    Connected(Evcxr),
    /// evcxr answers.
    Answered(Channel, Message),
    /// evcxr publishes something.
    Published(Message),
    /// A cell's process has written this to standard output (0) or standard error (1). Too many at once wait for a permit.
    Written(usize, Vec<u8>, OwnedSemaphorePermit),
    /// evcxr itself has printed a line.
    Log(String),
    /// evcxr has ended with this code, or could not be started.
    Gone(Result<u8>),
}
