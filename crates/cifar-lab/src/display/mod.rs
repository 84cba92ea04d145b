//! What a cell shows: [`Figure`]s, [`Table`]s, and values that know how they look ([`Show`]).
//!
//! | file | what it holds |
//! |---|---|
//! | `view.rs` | [`Show`] and [`View`]: what a value gives to the notebook |
//! | `figure.rs` | [`Figure`], a picture; several of them in one |
//! | `table.rs` | [`Table`] |
//! | `tensor.rs` | how tensors and parameters show themselves |
//! | `values.rs` | how this crate's own types do |
//! | `protocol.rs` | what evcxr reads |
//!
//! evcxr calls `evcxr_display` on a cell's last expression and reads from stdout what it prints between two marker
//! lines (evcxr_jupyter's README, "Custom output"). A cell shows one output of each MIME type, so several pictures of
//! one cell are put together into one: [`Figure::side_by_side`], [`Figure::grid`].

mod figure;
mod protocol;
mod table;
mod tensor;
mod values;
mod view;

pub(crate) use figure::png_bytes;
pub use figure::{DrawError, Figure};
pub use table::Table;
pub use view::{Show, View};
