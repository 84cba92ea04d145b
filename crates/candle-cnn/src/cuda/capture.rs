//! Work captured in a CUDA graph, which the GPU repeats with one launch.

use candle_core::cuda_backend::cudarc::driver::{CudaGraph, CudaStream, DriverError, sys};
use candle_core::{CudaDevice, Result};
use std::sync::Arc;

use crate::error::Error;

/// CUDA's handle for the per-thread stream.
const PER_THREAD: usize = 2;

fn failed(reason: impl ToString) -> candle_core::Error {
    // A backtrace may follow.
    Error::Capture { reason: reason.to_string().lines().next().unwrap_or_default().to_string() }.into()
}

/// Whether work on `device` can be captured.
///
/// Its stream must be the thread's own, as it is with `Device::new_cuda`: what another thread put on a shared stream
/// would end up in the graph. (The legacy default stream, which can't be captured, is never candle's.) Memory must come
/// from the stream; and tensors must not wait for each other's events, which lie outside of the graph.
pub(crate) fn is_possible(device: &CudaDevice) -> bool {
    let stream = device.cuda_stream();
    let context = stream.context();
    stream.cu_stream().addr() == PER_THREAD
        && context.has_async_alloc()
        && !(context.is_in_multi_stream_mode() && context.is_event_tracking())
}

/// A running capture, ended on drop: a stream left capturing would swallow all further work.
struct Capture {
    stream: Arc<CudaStream>,
    ended: bool,
}

impl Capture {
    fn begin(stream: Arc<CudaStream>) -> std::result::Result<Self, DriverError> {
        // Other threads are not affected: they may allocate memory and load kernels meanwhile.
        stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
        Ok(Self { stream, ended: false })
    }

    fn end(mut self) -> std::result::Result<Option<CudaGraph>, DriverError> {
        self.ended = true;
        self.stream.end_capture(sys::CUgraphInstantiate_flags(0))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if !self.ended {
            // After an error or a panic, which says what is wrong.
            let _ = self.stream.end_capture(sys::CUgraphInstantiate_flags(0));
        }
    }
}

/// Captured work. It uses the memory it had when captured, which its owner keeps alive.
pub(crate) struct Graph(CudaGraph);

impl Graph {
    /// Captures what `work` puts on the stream of `device`, without running it. `work` must drop everything that it
    /// makes and nothing that was there before.
    pub(crate) fn capture(device: &CudaDevice, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let stream = device.cuda_stream();
        let context = stream.context();
        // Clears errors left by dropped tensors, which are not the capture's.
        context.check_err().map_err(candle_core::Error::wrap)?;
        let capture = Capture::begin(stream.clone()).map_err(failed)?;
        let worked = work();
        let graph = capture.end();
        // For example a dropped tensor from before, whose memory can't be freed inside a graph.
        let dropped = context.check_err();
        worked.map_err(failed)?;
        dropped.map_err(|error| failed(format!("a tensor from before was dropped in the step: {error}")))?;
        match graph.map_err(failed)? {
            Some(graph) => Ok(Self(graph)),
            None => Err(failed("the step put nothing on the GPU")),
        }
    }

    /// Launches the captured work.
    pub(crate) fn replay(&self) -> Result<()> {
        self.0.launch().map_err(candle_core::Error::wrap)
    }

    /// The number of tensors that the captured work made and kept. Each replay would allocate them again, so a graph
    /// with any can be replayed only once.
    pub(crate) fn kept(&self) -> Result<usize> {
        let mut count = 0;
        // SAFETY: the graph is alive; without an array only the number of nodes is written.
        unsafe { sys::cuGraphGetNodes(self.0.cu_graph(), std::ptr::null_mut(), &mut count) }
            .result()
            .map_err(failed)?;
        let mut nodes = vec![std::ptr::null_mut(); count];
        // SAFETY: the array has room for as many nodes as there are.
        unsafe { sys::cuGraphGetNodes(self.0.cu_graph(), nodes.as_mut_ptr(), &mut count) }.result().map_err(failed)?;
        let (mut taken, mut given) = (0usize, 0usize);
        for node in nodes.into_iter().take(count) {
            let mut kind = sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_EMPTY;
            // SAFETY: a node of the graph, which is alive.
            unsafe { sys::cuGraphNodeGetType(node, &mut kind) }.result().map_err(failed)?;
            taken += usize::from(kind == sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEM_ALLOC);
            given += usize::from(kind == sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEM_FREE);
        }
        Ok(taken.saturating_sub(given))
    }
}
