//! How a block normalizes what its convolution gives.

use candle_core::Result;

use crate::batch_norm2d::layer::BatchNorm2d;
use crate::batch_norm2d::running::update;
use crate::chain::cpu::Affine;
use crate::chain::{Inputs, affines};
use crate::element::{vector, vector_or};
use crate::simd::lanes::{LANES, Lane};

/// Mean, without the convolution's bias, and 1 / √(var + eps) of each channel.
pub(super) struct Normalizer {
    pub mean: Vec<f64>,
    pub inverse: Vec<f64>,
}

impl Normalizer {
    /// From the running statistics.
    pub(super) fn running(inputs: &Inputs, bn: &BatchNorm2d, o: usize) -> Result<Self> {
        let bias = vector_or::<f32>(inputs.bias.as_ref(), o, 0.0)?;
        let mean = vector_or::<f32>(Some(&bn.running().mean), o, 0.0)?;
        let var = vector_or::<f32>(Some(&bn.running().var), o, 0.0)?;
        Ok(Self {
            mean: mean.iter().zip(&bias).map(|(mean, bias)| mean - bias).collect(),
            inverse: var.iter().map(|var| 1.0 / (var + bn.config().eps).sqrt()).collect(),
        })
    }

    /// From mean and sum of squares of each picture's blocks of `pixels`; moves the running statistics.
    pub(super) fn of_batch(
        moments: &[[Lane; 2]],
        pixels: usize,
        inputs: &Inputs,
        bn: &BatchNorm2d,
        o: usize,
    ) -> Result<Self> {
        let (mean, var) = combine(moments, pixels, o);
        let bias = vector_or::<f32>(inputs.bias.as_ref(), o, 0.0)?;
        let count = (moments.len() / o.div_ceil(LANES) * pixels) as f64;
        let batch_mean = vector::<f32>(mean.iter().zip(&bias).map(|(mean, bias)| mean + bias))?;
        let batch_var = vector::<f32>(var.iter().map(|var| var * count / (count - 1.0)))?;
        update(bn.running(), &batch_mean, &batch_var, bn.config().momentum)?;
        let inverse = var.iter().map(|var| 1.0 / (var + bn.config().eps).sqrt()).collect();
        Ok(Self { mean, inverse })
    }

    /// With the batch norm's weight and bias, block by block.
    pub(super) fn affines(&self, inputs: &Inputs) -> Result<Vec<Affine>> {
        let o = self.mean.len();
        let gamma = vector_or::<f32>(inputs.gamma.as_ref(), o, 1.0)?;
        let beta = vector_or::<f32>(inputs.beta.as_ref(), o, 0.0)?;
        Ok(affines(o, |c| self.mean[c], |c| gamma[c] * self.inverse[c], &beta))
    }
}

/// Mean and biased variance of each channel from those of each picture's blocks (Chan, Golub and LeVeque, 1979).
fn combine(moments: &[[Lane; 2]], pixels: usize, o: usize) -> (Vec<f64>, Vec<f64>) {
    let count = pixels as f64;
    let channel = |c: usize| {
        let pictures = moments.iter().skip(c / LANES).step_by(o.div_ceil(LANES));
        let (mut mean, mut squares, mut seen) = (0.0, 0.0, 0.0);
        for [m, s] in pictures {
            let delta = f64::from(m.0[c % LANES]) - mean;
            let total = seen + count;
            mean += delta * count / total;
            squares += f64::from(s.0[c % LANES]) + delta * delta * seen * count / total;
            seen = total;
        }
        // `max` would make 0 of NaN.
        (mean, (squares / seen).clamp(0.0, f64::INFINITY))
    };
    (0..o).map(channel).unzip()
}
