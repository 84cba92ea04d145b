use candle_core::{Result, Tensor};
use candle_nn::ModuleT;
use rand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Error;
use crate::random::stream;
use crate::step_graph;
use crate::trace::{self, LayerCall, Operation};

/// Dropout (Srivastava et al., 2014): in training each value is set to 0 with a probability, and the others are
/// scaled so that the mean stays; in inference nothing happens. As `torch.nn.Dropout`, but from a seed.
#[derive(Clone, Debug)]
pub struct Dropout {
    probability: f64,
    seed: u64,
    /// Training calls so far: each draws its own mask. Shared by clones.
    calls: Arc<AtomicU64>,
}

impl Dropout {
    /// Drops with `probability` (0 up to, not including, 1); `seed` decides on the masks.
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
    ///
    /// # Errors
    /// Where `probability` is out of range.
    pub fn new(probability: f64, seed: u64) -> Result<Self> {
        if !(0.0..1.0).contains(&probability) {
            return Err(Error::Setting {
                operation: "dropout",
                setting: "probability",
                found: probability.to_string(),
                wanted: "a number from 0 up to, not including, 1".into(),
            }
            .into());
        }
        Ok(Self { probability, seed, calls: Arc::default() })
    }
}

impl ModuleT for Dropout {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let y = if train && self.probability > 0.0 {
            step_graph::refuse("dropout draws its mask on the host")?;
            let mut random = stream(self.seed, "dropout", &[self.calls.fetch_add(1, Ordering::Relaxed)]);
            let kept = (1.0 / (1.0 - self.probability)) as f32;
            let draw = |_| if random.random::<f64>() < self.probability { 0.0 } else { kept };
            let mask: Vec<f32> = (0..x.elem_count()).map(draw).collect();
            (x * Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?)?
        } else {
            x.clone()
        };
        trace::report(y, |y| LayerCall {
            name: String::new(),
            kind: "Dropout",
            settings: format!("p {}", self.probability),
            operation: Operation::Dropout,
            inputs: vec![x.clone()],
            output: y.clone(),
            parameters: 0,
            multiply_adds: 0,
        })
    }
}
