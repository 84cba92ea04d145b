//! What the last operation on this thread was made of, so that convolution, batch norm, ReLU and max-pool, called one
//! after another, share one backward pass; so do flattening and a fully connected layer.
//!
//! Each of the first four leaves a note about its output; the next one takes it if that output is its input. Where the pool
//! finds the whole chain, its output enters candle's graph as a function of the chain's own inputs: the same values and
//! the same gradients, without the gradients of what lies between, which nobody can ask candle for anyway. The tensors
//! between keep their own places in the graph for whoever uses them otherwise. A note is kept until the next operation
//! of this module on the same thread.

use candle_core::{Tensor, TensorId};
use std::cell::RefCell;

use crate::conv2d::geometry::Geometry;
use crate::trace;

/// A convolution in one group, its arguments contiguous.
pub(crate) struct ConvCall {
    pub x: Tensor,
    pub weight: Tensor,
    pub bias: Option<Tensor>,
    pub geometry: Geometry,
    pub y: Tensor,
}

/// A training batch norm of a convolution's output.
pub(crate) struct NormCall {
    pub conv: ConvCall,
    pub gamma: Option<Tensor>,
    pub beta: Option<Tensor>,
    /// Mean and 1 / √(var + eps) of each channel.
    pub normalizer: Vec<(f64, f64)>,
}

pub(crate) enum Lineage {
    /// What was flattened.
    Flat(Tensor),
    Conv(ConvCall),
    Norm(NormCall),
    Relu(NormCall),
}

thread_local! {
    static LAST: RefCell<Option<(TensorId, Lineage)>> = const { RefCell::new(None) };
}

/// Notes what `output` was made of, unless no gradient can be asked of it.
pub(crate) fn note(output: &Tensor, lineage: Lineage) {
    if output.track_op() && !trace::is_recording() {
        LAST.set(Some((output.id(), lineage)));
    }
}

/// Takes the note about `input`, if that is what the last operation returned; whatever it is, it is gone then.
pub(crate) fn take(input: &Tensor) -> Option<Lineage> {
    LAST.take().and_then(|(id, lineage)| (id == input.id()).then_some(lineage))
}
