//! What a cell shows: [`Figure`]s, [`Table`]s, and values that know how they look ([`Show`]).

pub use notebook_charts::{DrawError, Figure, Table, View};

pub use super::show::Show;
