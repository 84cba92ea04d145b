//! A training step that a GPU repeats with one launch, as a CUDA graph.
//!
//! A step of a small network takes some 80 launches, and with a small batch the GPU finishes each before the next one arrives. A
//! graph is the whole step in one launch: the same kernels with the same arguments, so the same bits.
//!
//! On an H200 that makes a step at batch 32 3.4 times as fast (docs/benchmarks.md in the repository).

use candle_core::{Result, Tensor};
use candle_nn::Optimizer;
use std::fmt;
use std::marker::PhantomData;

use crate::autograd::graph::backward;
#[cfg(feature = "cuda")]
use crate::capturing::Capturing;
pub use crate::capturing::outside_captures;
use crate::cross_entropy::count_correct::count_correct;
use crate::optim::capturable::Capturable;

#[cfg(feature = "cuda")]
use crate::cuda::capture::{self, Graph};
#[cfg(feature = "cuda")]
use crate::optim::cuda::RecordedStep;
#[cfg(feature = "cuda")]
use crate::precision::{Precision, precision};
#[cfg(feature = "cuda")]
use candle_core::{CudaDevice, DType, Device, Var};

/// Steps before the capture: the first creates the optimizer's states and loads kernels, cuDNN chooses its algorithms,
/// and the small tables that candle's kernels read (shapes and strides) are copied to the device.
#[cfg(feature = "cuda")]
const WARM_UP_STEPS: usize = 3;

/// A step's results; the tensors are copies, which later steps don't change.
#[derive(Debug, Clone)]
pub struct StepResult {
    /// The loss, a scalar, outside of any graph of operations.
    pub loss: Tensor,
    /// How many images the network classified correctly before the step, a scalar of type `u32`.
    pub correct: Tensor,
}

/// Loss (a scalar) and logits `[N, C]` from images and labels `[N]`.
type Forward<'a> = dyn Fn(&Tensor, &Tensor) -> Result<(Tensor, Tensor)> + 'a;

/// A training step: forward pass and loss by a closure, then backward pass, optimizer step and the number of correct
/// predictions.
///
/// On the CPU each call does just that. On an NVIDIA GPU (feature `cuda`, a device from `Device::new_cuda`) so do the
/// first three steps; the fourth is captured in a CUDA graph, which it and all later ones launch without calling the
/// closure. Learning rates, AdamW's step count and batch norm's running statistics advance as they should; images and
/// labels are copied to where the graph reads them. No step waits for the GPU.
///
/// A batch of another shape, such as the last of an epoch, runs without the graph. After the optimizer's state is
/// loaded or the [`precision`](crate::precision) changes, three steps run without it before it is captured again.
///
/// So the closure must do the same at each call: what it decides or computes on the host (a number, a branch, random
/// values) is repeated as it was at the capture. [`Dropout`](crate::layers::Dropout), which draws its mask on the host,
/// is rejected. The tensors that it uses besides its arguments must be the same at each call; changing them in place
/// (`Var::set`, `load_state_dict`) is fine. It may not keep tensors that it makes, nor drop ones that it kept.
///
/// ```
/// use candle_cnn::{layers::linear, ops, optim::{SGD, SgdConfig}, parameters::Parameters, step_graph::StepGraph};
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Module, Optimizer};
///
/// let parameters = Parameters::new(0);
/// let network = linear(4, 3, parameters.var_builder(&Device::Cpu))?;
/// let mut sgd = SGD::new(parameters.trainable(), SgdConfig { learning_rate: 0.1, ..Default::default() })?;
/// let mut step = StepGraph::new(|images, labels| {
///     let logits = network.forward(images)?;
///     Ok((ops::cross_entropy(&logits, labels)?, logits))
/// });
/// let (images, labels) = (Tensor::ones((8, 4), DType::F32, &Device::Cpu)?, Tensor::zeros(8, DType::U32, &Device::Cpu)?);
/// let first = step.run(&mut sgd, &images, &labels)?;
/// for rate in [0.2, 0.3, 0.4] {
///     sgd.set_learning_rate(rate);
///     step.run(&mut sgd, &images, &labels)?;
/// }
/// let last = step.run(&mut sgd, &images, &labels)?;
/// assert!(last.loss.to_scalar::<f32>()? < first.loss.to_scalar::<f32>()?);
/// assert_eq!(last.correct.to_scalar::<u32>()?, 8);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub struct StepGraph<'a> {
    forward: Box<Forward<'a>>,
    #[cfg(feature = "cuda")]
    on_gpu: Option<OnGpu>,
    /// A graph belongs to the stream of the thread that captured it, so this is not `Send`, even in builds without
    /// CUDA.
    thread: PhantomData<*const ()>,
}

impl fmt::Debug for StepGraph<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StepGraph(captured: {})", self.is_captured())
    }
}

impl<'a> StepGraph<'a> {
    /// A step whose `forward` computes the loss (a scalar) and the logits `[N, C]` from a batch's images and labels
    /// `[N]`.
    ///
    /// The network that it uses must live as long as the step, which the closure sees to by owning or borrowing it: a
    /// graph works on the parameters where they lie.
    pub fn new(forward: impl Fn(&Tensor, &Tensor) -> Result<(Tensor, Tensor)> + 'a) -> Self {
        Self {
            forward: Box::new(forward),
            #[cfg(feature = "cuda")]
            on_gpu: None,
            thread: PhantomData,
        }
    }

    /// One step on a batch: `images` of any shape that the closure takes, and `labels` `[N]` of an integer type.
    ///
    /// # Errors
    /// Those of the closure, the backward pass and the optimizer; and [`Error::Capture`](crate::Error::Capture), at the
    /// fourth step on a GPU, if the step can't be captured. No step was done then, unless the closure had kept a
    /// tensor, which shows after the step.
    pub fn run(&mut self, optimizer: &mut impl Capturable, images: &Tensor, labels: &Tensor) -> Result<StepResult> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(device) = images.device()
            && capture::is_possible(device)
        {
            let on_gpu = match &mut self.on_gpu {
                Some(on_gpu) => on_gpu,
                None => self.on_gpu.insert(OnGpu::new(images, labels)?),
            };
            if on_gpu.takes(images, labels) {
                return on_gpu.run(device, &*self.forward, optimizer, images, labels);
            }
        }
        plain_step(&self.forward, optimizer, images, labels)
    }

    /// Whether the last [`Self::run`] could not capture its step and did nothing; [`plain_step`] does it then.
    pub fn is_refused(&self) -> bool {
        #[cfg(feature = "cuda")]
        return self.on_gpu.as_ref().is_some_and(|on_gpu| on_gpu.refused);
        #[cfg(not(feature = "cuda"))]
        false
    }

    /// Whether the next step of the first one's shape is a graph's launch.
    pub fn is_captured(&self) -> bool {
        #[cfg(feature = "cuda")]
        return self.on_gpu.as_ref().is_some_and(|on_gpu| on_gpu.captured.is_some());
        #[cfg(not(feature = "cuda"))]
        false
    }
}

/// The step without a graph, with any optimizer; `forward` as for [`StepGraph::new`].
///
/// # Errors
/// Those of the closure, the backward pass and the optimizer.
pub fn plain_step(
    forward: impl Fn(&Tensor, &Tensor) -> Result<(Tensor, Tensor)>,
    optimizer: &mut impl Optimizer,
    images: &Tensor,
    labels: &Tensor,
) -> Result<StepResult> {
    let (loss, logits) = forward(images, labels)?;
    let gradients = backward(&loss)?;
    optimizer.step(&gradients)?;
    Ok(StepResult { loss: loss.detach(), correct: count_correct(&logits, labels)? })
}

/// What stays on a GPU from step to step.
#[cfg(feature = "cuda")]
struct OnGpu {
    captured: Option<Captured>,
    /// Whether the last capture failed.
    refused: bool,
    /// Steps without a graph so far, since there was one.
    warm_up: usize,
    images: Var,
    labels: Var,
    /// The graph's results: the loss, with its shape and type from the warm-up, and the count.
    loss: Option<Var>,
    correct: Var,
}

#[cfg(feature = "cuda")]
struct Captured {
    graph: Graph,
    optimizer: RecordedStep,
    precision: Precision,
    /// Tensors that the captured step made and did not drop; see [`Graph::kept`].
    kept: usize,
}

#[cfg(feature = "cuda")]
impl OnGpu {
    fn new(images: &Tensor, labels: &Tensor) -> Result<Self> {
        Ok(Self {
            captured: None,
            refused: false,
            warm_up: 0,
            // Detached, since a variable would be taken as it is instead of being copied.
            images: Var::from_tensor(&images.detach())?,
            labels: Var::from_tensor(&labels.detach())?,
            loss: None,
            correct: Var::zeros((), DType::U32, images.device())?,
        })
    }

    /// Whether a batch fits to where the graph reads it.
    fn takes(&self, images: &Tensor, labels: &Tensor) -> bool {
        [(&self.images, images), (&self.labels, labels)].into_iter().all(|(place, batch)| {
            place.dims() == batch.dims() && place.dtype() == batch.dtype() && place.device().same_device(batch.device())
        })
    }

    fn run(
        &mut self,
        device: &CudaDevice,
        forward: &Forward<'_>,
        optimizer: &mut impl Capturable,
        images: &Tensor,
        labels: &Tensor,
    ) -> Result<StepResult> {
        self.images.set(images)?;
        self.labels.set(labels)?;
        let fits =
            |captured: &Captured| captured.precision == precision() && optimizer.is_recorded(&captured.optimizer);
        if self.captured.as_ref().is_some_and(|captured| !fits(captured)) {
            self.captured = None;
            self.warm_up = 0;
        }
        if self.captured.is_none() {
            if self.warm_up < WARM_UP_STEPS {
                self.warm_up += 1;
                // The small tables of candle's kernels stay on the device, where the capture finds them.
                let _tables = device.enable_cuda_graph_htod_cache();
                let (images, labels) = (self.images.as_detached_tensor(), self.labels.as_detached_tensor());
                let result = plain_step(forward, optimizer, &images, &labels)?;
                self.loss = Some(Var::zeros(result.loss.shape(), result.loss.dtype(), result.loss.device())?);
                return Ok(result);
            }
            self.refused = true;
            self.captured = Some(self.capture(device, forward, optimizer)?);
            self.refused = false;
        }
        self.replay(optimizer)
    }

    /// Captures a step; nothing runs, and neither the optimizer nor the parameters change.
    fn capture(&self, device: &CudaDevice, forward: &Forward<'_>, optimizer: &mut impl Capturable) -> Result<Captured> {
        let Some(loss_at) = &self.loss else { candle_core::bail!("internal: a capture before the first step") };
        let (images, labels) = (self.images.as_detached_tensor(), self.labels.as_detached_tensor());
        let mut recorded = optimizer.begin_record(device)?;
        let _tables = device.enable_cuda_graph_htod_cache();
        let capturing = Capturing::begin();
        let graph = Graph::capture(device, || {
            let (loss, logits) = forward(&images, &labels)?;
            let gradients = backward(&loss)?;
            optimizer.record(&gradients, &mut recorded)?;
            loss_at.set(&loss.detach())?;
            self.correct.set(&count_correct(&logits, &labels)?)
        })?;
        drop(capturing);
        let kept = graph.kept()?;
        Ok(Captured { graph, optimizer: recorded, precision: precision(), kept })
    }

    fn replay(&mut self, optimizer: &mut impl Capturable) -> Result<StepResult> {
        let (Some(captured), Some(loss)) = (&mut self.captured, &self.loss) else {
            candle_core::bail!("internal: a replay before a capture")
        };
        optimizer.renew(&mut captured.optimizer)?;
        captured.graph.replay()?;
        let result =
            StepResult { loss: loss.as_detached_tensor().copy()?, correct: self.correct.as_detached_tensor().copy()? };
        if captured.kept > 0 {
            // Only now: the replay has given the kept tensors their memory, so that they can be dropped.
            let reason = format!("the closure has kept {} tensors that it made", captured.kept);
            self.captured = None;
            return Err(crate::error::Error::Capture { reason }.into());
        }
        Ok(result)
    }
}
