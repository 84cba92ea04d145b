//! What a cell shows: [`Figure`]s, [`Table`]s, outputs that change ([`LiveView`]), and values that know how they look ([`Show`]).

pub use notebook_charts::{DrawError, Figure, LiveView, Table, View};

pub use super::show::Show;
