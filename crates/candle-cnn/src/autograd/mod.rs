//! Nodes of candle's graph, the way back through them, and whether candle can tell their tensors apart.

pub(crate) mod graph;
pub(crate) mod identity;
