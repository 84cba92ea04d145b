//! GELU.

use candle_core::cpu::erf::erfc_f64;
use candle_core::{Result, Tensor};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

use super::CHUNK;
use super::cpu::Apply;
#[cfg(feature = "cuda")]
use super::cuda;
use crate::autograd::graph::node;
use crate::check::{self, Backend};
use crate::config::Gelu;
use crate::element::{filled, tensor, values};
use crate::simd::Whole;
use crate::trace::{self, LayerCall, Operation};

const NAME: &str = "gelu";

/// x · Φ(x), element by element, with the standard normal distribution's Φ, for a tensor of any shape (Hendrycks and
/// Gimpel, "Gaussian Error Linear Units", 2016). As `torch.nn.functional.gelu`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let y = candle_cnn::ops::gelu(&Tensor::new(&[-1f32, 0., 1.], &Device::Cpu)?)?.to_vec1::<f32>()?;
/// assert!((y[0] + 0.158655).abs() < 1e-6 && y[1] == 0. && (y[2] - 0.841345).abs() < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If `x` is not of a floating-point type, or the device is out of memory or fails.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    of_form(x, Gelu::Erf)
}

/// An approximation of [`gelu`] by the hyperbolic tangent, x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))) / 2, off by up to
/// 0.0005. As `torch.nn.functional.gelu(x, approximate="tanh")`.
///
/// # Errors
/// As [`gelu`].
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    of_form(x, Gelu::Tanh)
}

pub(crate) fn of_form(x: &Tensor, form: Gelu) -> Result<Tensor> {
    check::float(NAME, "the input", x)?;
    let y = match check::backend(x) {
        Backend::CpuF32 => on_cpu(x, form)?,
        Backend::CpuF64 => in_f64(x, form)?,
        #[cfg(feature = "cuda")]
        Backend::CudaF32 => cuda::gelu(x, form)?,
        Backend::Candle => check::by_candle(NAME, x, || match form {
            Gelu::Erf => x.gelu_erf(),
            Gelu::Tanh => x.gelu(),
        })?,
    };
    trace::report(y, |y| {
        let settings = if form == Gelu::Tanh { "by tanh".to_string() } else { String::new() };
        LayerCall::of("GELU", settings, Operation::Gelu(form), x, y)
    })
}

fn on_cpu(x: &Tensor, form: Gelu) -> Result<Tensor> {
    let x = x.contiguous()?;
    let apply = move |x: &[f32], dy: Option<&[f32]>| {
        filled(x.len(), CHUNK, |i, y| {
            let part = i * CHUNK..i * CHUNK + y.len();
            Apply { x: &x[part.clone()], dy: dy.map(|dy| &dy[part]), form, y }.call();
        })
    };
    let y = apply(&values::<f32>(&x)?, None);
    let input = x.clone();
    node(NAME, &[&x], y, x.dims(), move |grad| {
        let dx = apply(&values::<f32>(&input)?, Some(&values::<f32>(grad)?));
        Ok(vec![Some(tensor(dx, input.dims())?)])
    })
}

/// By the definition, for references.
fn in_f64(x: &Tensor, form: Gelu) -> Result<Tensor> {
    let (slope, cube) = ((2.0 / PI).sqrt(), 0.044715);
    let share = move |x: f64| match form {
        Gelu::Erf => 0.5 * erfc_f64(-x * FRAC_1_SQRT_2),
        Gelu::Tanh => 0.5 * (1.0 + (slope * (x + cube * x.powi(3))).tanh()),
    };
    let rise = move |x: f64| match form {
        Gelu::Erf => 0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * (-0.5 * x * x).exp(),
        Gelu::Tanh => 2.0 * share(x) * (1.0 - share(x)) * slope * (1.0 + 3.0 * cube * x * x),
    };
    let x = x.contiguous()?;
    let y: Vec<f64> = values::<f64>(&x)?.iter().map(|&x| x * share(x)).collect();
    let input = x.clone();
    node(NAME, &[&x], y, x.dims(), move |grad| {
        let (x, dy) = (values::<f64>(&input)?, values::<f64>(grad)?);
        let dx = x.iter().zip(dy.iter()).map(|(&x, &dy)| dy * (share(x) + x * rise(x))).collect();
        Ok(vec![Some(tensor::<f64>(dx, input.dims())?)])
    })
}
