//! An output that is redrawn in place: [`LiveView`].

use std::sync::atomic::{AtomicU64, Ordering};

use crate::protocol;
use crate::view::View;

/// An output of the running cell that each [`show`](Self::show) replaces, for what changes while the cell runs.
///
/// Only the kernel of `cargo lab` can do that; elsewhere [`open`](Self::open) returns `None`, and a cell prints lines instead.
///
/// ```
/// use notebook_charts::{LiveView, View};
/// let live = LiveView::open();
/// for step in 0..3 {
///     match &live {
///         Some(live) => live.show(&View::line(format!("step {step}"))),
///         None => println!("step {step}"),
///     }
/// }
/// assert!(live.is_none(), "this is no cell");
/// ```
#[derive(Debug)]
pub struct LiveView {
    id: u64,
}

impl LiveView {
    /// A new place, which appears with the first view. `None` where nothing can be redrawn.
    pub fn open() -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        protocol::can_show_in_place().then(|| Self { id: NEXT.fetch_add(1, Ordering::Relaxed) })
    }

    /// Shows `view` in place of the one before.
    pub fn show(&self, view: &View) {
        protocol::show_in_place(self.id, &[(view.mime_type(), view.content()), ("text/plain", view.text())]);
    }
}
