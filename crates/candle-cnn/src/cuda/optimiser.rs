//! An optimiser's step on a GPU: all parameters in one launch.

use candle_core::{CudaDevice, DType, Device, Result, Tensor};

use super::launch::{self, Entry};
use super::{Gpu, address};

/// The parameters of one step, gathered.
///
/// Their addresses go to the kernel by value, so nothing is copied to the device and nothing waits. Parameters and
/// states are changed in place, where they stay from step to step.
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

impl Step {
    pub(crate) fn sgd() -> Self {
        Self { kernel: "sgd_step", entries: Vec::new() }
    }

    pub(crate) fn adamw() -> Self {
        Self { kernel: "adamw_step", entries: Vec::new() }
    }

    fn add(&mut self, parameter: &Tensor, entry: Entry) -> Result<()> {
        let device = parameter.device().as_cuda_device()?;
        match self.entries.iter_mut().find(|(known, _)| known.id() == device.id()) {
            Some((_, entries)) => entries.push(entry),
            None => self.entries.push((device.clone(), vec![entry])),
        }
        Ok(())
    }

    /// Settings: rate, decay, momentum, the shares of the old buffer and of the gradient.
    pub(crate) fn add_sgd(
        &mut self,
        parameter: &Tensor,
        gradient: &Tensor,
        buffer: Option<&Tensor>,
        settings: [f64; 5],
        nesterov: bool,
    ) -> Result<()> {
        let (p, g, b) = (address::<f32>(parameter)?, address::<f32>(gradient)?, super::address_or_null(buffer)?);
        let settings = settings.map(|value| value as f32);
        self.add(parameter, launch::sgd_entry(p, g, b, parameter.elem_count(), settings, nesterov))
    }

    /// Settings: the kept share of the parameter, the step's size, the root of the second moment's correction, eps,
    /// beta2, 1 − beta1 and 1 − beta2.
    pub(crate) fn add_adamw(
        &mut self,
        parameter: &Tensor,
        gradient: &Tensor,
        moments: [&Tensor; 2],
        settings: [f64; 7],
    ) -> Result<()> {
        let (p, g) = (address::<f32>(parameter)?, address::<f32>(gradient)?);
        let moments = [address::<f32>(moments[0])?, address::<f32>(moments[1])?];
        let settings = settings.map(|value| value as f32);
        self.add(parameter, launch::adamw_entry(p, g, moments, parameter.elem_count(), settings))
    }

    /// Steps all that were added.
    pub(crate) fn run(self) -> Result<()> {
        for (device, entries) in self.entries {
            let gpu = Gpu(device);
            launch::step(self.kernel, &entries).into_iter().try_for_each(|launch| gpu.run(launch))?;
        }
        Ok(())
    }
}
