//! Nodes in candle's graph, the backward pass through them, and checks that candle can tell their tensors apart.

pub(crate) mod graph;
pub(crate) mod identity;
