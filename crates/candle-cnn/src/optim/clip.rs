use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Var};

use crate::check;
use crate::sums::widened;

/// Scales the gradients of `vars` so that their joint Euclidean norm is at most `max_norm`, and returns their previous
/// norm. As `torch.nn.utils.clip_grad_norm_`: the factor is max_norm / (norm + 10⁻⁶) where that is below 1, and NaN
/// makes all of them NaN. Since it returns a number, it waits for a GPU.
///
/// ```
/// use candle_cnn::optim::clip_gradients_by_norm;
/// use candle_core::{Device, Var};
/// let p = Var::new(&[3f32, 4.], &Device::Cpu)?;
/// let mut gradients = (p.sqr()?.sum_all()? * 0.5)?.backward()?; // The gradient is p, its norm 5.
/// assert_eq!(clip_gradients_by_norm(&mut gradients, &[p.clone()], 1.)?, 5.);
/// assert!((gradients.get(&p).unwrap().to_vec1::<f32>()?[0] - 0.6).abs() < 1e-5);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If `max_norm` is negative or not finite.
pub fn clip_gradients_by_norm(gradients: &mut GradStore, vars: &[Var], max_norm: f64) -> Result<f64> {
    check::not_negative("clip_gradients_by_norm", "max_norm", max_norm)?;
    let mut squares = 0.0;
    for var in vars {
        if let Some(gradient) = gradients.get(var) {
            squares += widened(gradient)?.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        }
    }
    let norm = squares.sqrt();
    let factor = max_norm / (norm + 1e-6);
    if factor < 1.0 || factor.is_nan() {
        for var in vars {
            if let Some(gradient) = gradients.remove(var) {
                gradients.insert(var, (gradient * factor)?);
            }
        }
    }
    Ok(norm)
}
