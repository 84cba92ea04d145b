//! An optimizer's step on a GPU, all parameters in one launch.

use candle_core::{CudaDevice, DType, Device, Result, Tensor, TensorId};

use crate::cuda::launch::{self, Entry, SETTINGS};
use crate::cuda::{Gpu, Memory, address, address_or_null};

/// The parameters of one step, gathered.
///
/// Their addresses are passed to the kernel by value, so nothing is copied to the device and nothing waits. Parameters
/// and states are updated in place.
pub(crate) struct Step {
    kernel: &'static str,
    entries: Vec<(CudaDevice, Vec<Entry>)>,
}

/// Whether a parameter and its gradient can be part of a [`Step`].
pub(crate) fn serves(parameter: &Tensor, gradient: &Tensor) -> bool {
    matches!(parameter.device(), Device::Cuda(_))
        && parameter.device().same_device(gradient.device())
        && parameter.dtype() == DType::F32
        && gradient.dtype() == DType::F32
        && parameter.dims() == gradient.dims()
        && parameter.is_contiguous()
        && gradient.is_contiguous()
        && (1..=i32::MAX as usize).contains(&parameter.elem_count())
}

/// Settings: rate, decay, momentum, the shares of the old buffer and of the gradient.
pub(crate) fn sgd(
    parameter: &Tensor,
    gradient: &Tensor,
    buffer: Option<&Tensor>,
    settings: [f64; 5],
    nesterov: bool,
) -> Result<Entry> {
    let (p, g, b) = (address::<f32>(parameter)?, address::<f32>(gradient)?, address_or_null(buffer)?);
    Ok(launch::sgd_entry(p, g, b, parameter.elem_count(), settings.map(|value| value as f32), nesterov))
}

/// Settings: the kept share of the parameter, the step's size, the root of the second moment's correction, eps, beta2,
/// 1 − beta1 and 1 − beta2.
pub(crate) fn adamw(parameter: &Tensor, gradient: &Tensor, moments: [&Tensor; 2], settings: [f64; 7]) -> Result<Entry> {
    let (p, g) = (address::<f32>(parameter)?, address::<f32>(gradient)?);
    let moments = [address::<f32>(moments[0])?, address::<f32>(moments[1])?];
    Ok(launch::adamw_entry(p, g, moments, parameter.elem_count(), settings.map(|value| value as f32)))
}

/// The kernels' names.
pub(crate) const SGD: &str = "sgd_step";
pub(crate) const ADAMW: &str = "adamw_step";

impl Step {
    pub(crate) fn new(kernel: &'static str) -> Self {
        Self { kernel, entries: Vec::new() }
    }

    pub(crate) fn add(&mut self, parameter: &Tensor, entry: Entry) -> Result<()> {
        let device = parameter.device().as_cuda_device()?;
        match self.entries.iter_mut().find(|(known, _)| known.id() == device.id()) {
            Some((_, entries)) => entries.push(entry),
            None => self.entries.push((device.clone(), vec![entry])),
        }
        Ok(())
    }

    /// Steps all that were added.
    pub(crate) fn run(self) -> Result<()> {
        for (device, entries) in self.entries {
            let gpu = Gpu::new(device)?;
            launch::step(self.kernel, &entries, 0).into_iter().try_for_each(|launch| gpu.run(launch))?;
        }
        Ok(())
    }
}

/// A step that a CUDA graph repeats. The graph repeats the addresses; the settings, which change from step to step, lie
/// on the device and are renewed before each replay.
pub struct RecordedStep {
    kernel: &'static str,
    gpu: Gpu,
    settings: Memory,
    entries: Vec<Entry>,
    parameters: Vec<RecordedParameter>,
}

/// A parameter of a [`RecordedStep`], in the order of the entries.
struct RecordedParameter {
    /// Its place among the optimizer's parameters.
    place: usize,
    /// Itself and its states, alive as long as the graph that changes them.
    tensors: Vec<Tensor>,
}

impl RecordedStep {
    /// For an optimizer of `count` parameters on `device`. To be called before the capture: memory that is taken in a
    /// capture belongs to the graph.
    pub(crate) fn new(device: &CudaDevice, kernel: &'static str, count: usize) -> Result<Self> {
        let gpu = Gpu::new(device.clone())?;
        let settings = gpu.empty::<f32>(count.max(1) * SETTINGS)?;
        Ok(Self { kernel, gpu, settings, entries: Vec::new(), parameters: Vec::new() })
    }

    /// Adds the parameter at `place` among the optimizer's; `tensors` are itself and its states.
    pub(crate) fn add(&mut self, place: usize, tensors: &[&Tensor], entry: Entry) {
        let tensors = tensors.iter().map(|&tensor| tensor.clone()).collect();
        self.parameters.push(RecordedParameter { place, tensors });
        self.entries.push(entry);
    }

    /// Puts the step on the stream that is being captured.
    pub(crate) fn launch(&self) -> Result<()> {
        let launches = launch::step(self.kernel, &self.entries, self.settings.at());
        launches.into_iter().try_for_each(|launch| self.gpu.run(launch))
    }

    /// The parameters' places among the optimizer's.
    pub(crate) fn places(&self) -> impl Iterator<Item = usize> + '_ {
        self.parameters.iter().map(|parameter| parameter.place)
    }

    /// Whether `tensors` gives for each place the ids that were added.
    pub(crate) fn is_of(&self, tensors: impl Fn(usize) -> Vec<TensorId>) -> bool {
        let ids = |parameter: &RecordedParameter| parameter.tensors.iter().map(Tensor::id).collect::<Vec<_>>();
        self.parameters.iter().all(|parameter| ids(parameter) == tensors(parameter.place))
    }

    /// Puts the settings of each parameter, by its place, on the device for the next replay.
    pub(crate) fn renew<const N: usize>(&mut self, settings: impl Fn(usize) -> [f64; N]) -> Result<()> {
        for (entry, parameter) in self.entries.iter_mut().zip(&self.parameters) {
            entry.settings = launch::settings(settings(parameter.place).map(|value| value as f32));
        }
        let launches = launch::store_settings(&self.entries, self.settings.at());
        launches.into_iter().try_for_each(|launch| self.gpu.run(launch))
    }
}
