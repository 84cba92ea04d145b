use candle_core::{DType, Device, Result, Tensor};
use candle_nn::ModuleT;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::sync::{Arc, Mutex};

use crate::autograd::graph::node;
use crate::capturing;
use crate::check;
use crate::element::{Element, tensor, values};
use crate::random::{step, stream};
use crate::trace::{self, LayerCall, Operation};

/// Dropout (Srivastava et al., 2014): in training, sets each value to 0 with a given probability and scales the others
/// to keep the mean; in inference, does nothing. Like `torch.nn.Dropout`, but seeded: a mask depends on the seed and
/// the training step ([`set_step`](crate::random::set_step)), or outside training, on the seed and the number of masks
/// drawn before. Layers with different seeds draw different masks.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::ModuleT;
/// let dropout = candle_cnn::layers::Dropout::new(0.5, 7)?;
/// let x = Tensor::ones(100, DType::F32, &Device::Cpu)?;
/// assert!(dropout.forward_t(&x, true)?.to_vec1::<f32>()?.iter().all(|&v| v == 0. || v == 2.));
/// assert_eq!(dropout.forward_t(&x, false)?.to_vec1::<f32>()?, [1.; 100]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dropout {
    probability: f64,
    seed: u64,
    /// For the last mask, the call that set its step, and how many masks came before it in that step. Shared by clones.
    last: Arc<Mutex<(Option<u64>, u64)>>,
}

impl Dropout {
    /// Drops values with `probability`, in [0, 1); `seed` determines the masks.
    ///
    /// # Errors
    /// If `probability` is out of range.
    pub fn new(probability: f64, seed: u64) -> Result<Self> {
        check::share_below_one("dropout", "probability", probability)?;
        Ok(Self { probability, seed, last: Arc::new(Mutex::new((None, u64::MAX))) })
    }

    /// The random numbers of the next mask.
    fn stream(&self) -> ChaCha8Rng {
        let step = step();
        // The pair is consistent after every statement.
        let mut last = self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let call = step.map(|(_, call)| call);
        *last = if last.0 == call { (call, last.1.wrapping_add(1)) } else { (call, 0) };
        match step {
            Some((step, _)) => stream(self.seed, "dropout", &[step, last.1]),
            None => stream(self.seed, "dropout", &[last.1]),
        }
    }
}

/// x, where it is kept, times `factor`, else 0, as a graph node for [`crate::backward`].
fn masked<T: Element>(x: &Tensor, kept: &[bool], factor: f64) -> Result<Tensor> {
    let x = x.contiguous()?;
    let mask: Vec<T> = kept.iter().map(|&kept| if kept { T::from_f64(factor) } else { T::zero() }).collect();
    let times_mask = move |x: &[T]| -> Vec<T> { x.iter().zip(&mask).map(|(&x, &factor)| x * factor).collect() };
    let y = times_mask(&values::<T>(&x)?);
    node("dropout", &[&x], y, x.dims(), move |grad| {
        Ok(vec![Some(tensor(times_mask(&values::<T>(grad)?), grad.dims())?)])
    })
}

impl ModuleT for Dropout {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let drops = train && self.probability > 0.0;
        let y = if drops {
            check::float("dropout", "the input", x)?;
            capturing::refuse("dropout draws its mask on the host")?;
            let mut random = self.stream();
            let factor = 1.0 / (1.0 - self.probability);
            let kept: Vec<bool> = (0..x.elem_count()).map(|_| random.random::<f64>() >= self.probability).collect();
            match (x.device(), x.dtype()) {
                (Device::Cpu, DType::F32) => masked::<f32>(x, &kept, factor)?,
                (Device::Cpu, DType::F64) => masked::<f64>(x, &kept, factor)?,
                _ => {
                    let mask: Vec<f32> = kept.into_iter().map(|kept| if kept { factor as f32 } else { 0.0 }).collect();
                    (x * Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?)?
                }
            }
        } else {
            x.clone()
        };
        let settings = || format!("p {}", self.probability);
        trace::report(y, |y| LayerCall::of("Dropout", settings(), Operation::Dropout { train: drops }, x, y))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::set_step;
    use candle_core::Var;

    #[test]
    fn the_gradient_has_the_mask_of_the_output() -> Result<()> {
        for dtype in [DType::F32, DType::F64, DType::F16] {
            // Not contiguous.
            let x = Var::from_tensor(&Tensor::ones((50, 40), dtype, &Device::Cpu)?)?;
            let y = Dropout::new(0.25, 7)?.forward_t(&x.t()?, true)?;
            let values = y.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
            let kept = values.iter().filter(|&&value| value != 0.).count();
            // 1500 of 2000, give or take four standard deviations of 19.
            assert!((1420..1580).contains(&kept), "{kept}");
            let gradients = y.sum_all()?.backward()?;
            let gradient = gradients.get(&x).expect("a gradient").t()?.to_dtype(DType::F64)?;
            assert_eq!(gradient.flatten_all()?.to_vec1::<f64>()?, values, "the sum's gradient is 1, as is x");
        }
        Ok(())
    }

    #[test]
    fn masks_belong_to_their_step_whatever_was_drawn_before() -> Result<()> {
        let x = Tensor::ones(64, DType::F32, &Device::Cpu)?;
        let mask = |dropout: &Dropout| dropout.forward_t(&x, true)?.to_vec1::<f32>();
        let steps = |dropout: &Dropout| {
            set_step(Some(3));
            let first = [mask(dropout)?, mask(dropout)?];
            set_step(Some(4));
            Ok::<_, candle_core::Error>([first[0].clone(), first[1].clone(), mask(dropout)?])
        };
        let dropout = Dropout::new(0.5, 7)?;
        // A layer that is used twice in one step draws two masks.
        let undisturbed = steps(&dropout)?;
        assert!(undisturbed[0] != undisturbed[1] && undisturbed[0] != undisturbed[2]);
        let resumed = Dropout::new(0.5, 7)?;
        set_step(None);
        assert_ne!(mask(&resumed)?, mask(&resumed)?);
        assert_eq!(steps(&resumed)?, undisturbed);
        // The same layer at the same steps again, as after a step that failed.
        assert_eq!(steps(&resumed)?, undisturbed);
        set_step(None);
        Ok(())
    }

    #[test]
    fn dropout_is_refused_in_a_capture() -> Result<()> {
        let (dropout, x) = (Dropout::new(0.5, 1)?, Tensor::ones(4, DType::F32, &Device::Cpu)?);
        let capturing = capturing::Capturing::begin();
        let error = dropout.forward_t(&x, true).unwrap_err().to_string();
        assert!(error.contains("dropout draws its mask on the host"), "{error}");
        dropout.forward_t(&x, false)?;
        drop(capturing);
        dropout.forward_t(&x, true).map(drop)
    }
}
