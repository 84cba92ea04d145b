//! What several test files share.
#![allow(dead_code)] // Each test file uses a part.

use candle_cnn::layers::{BatchNormConfig, Conv2dConfig, ConvBlock, Flatten, Relu, Sequential};
use candle_cnn::layers::{batch_norm2d, conv2d, linear};
use candle_cnn::{ops, parameters::Parameters};
use candle_core::{DType, Device, Result, Tensor, Var};

/// The generator of `fixtures/make_fixtures.py`, bit by bit.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn one(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f64 / 8388608.0 - 1.0
    }

    /// Numbers in [-1, 1), of type f32.
    pub fn tensor(&mut self, shape: &[usize]) -> Result<Tensor> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| self.one() as f32).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)
    }

    pub fn var(&mut self, shape: &[usize]) -> Result<Var> {
        Var::from_tensor(&self.tensor(shape)?)
    }
}

/// The first GPU, the same for all tests, since opening and closing it would spoil their captures; where there is none, a
/// line says that the test is skipped.
#[cfg(feature = "cuda")]
pub fn gpu() -> Option<Device> {
    static GPU: std::sync::LazyLock<std::result::Result<Device, String>> = std::sync::LazyLock::new(|| {
        // A backtrace may follow the first line.
        Device::new_cuda(0).map_err(|error| error.to_string().lines().next().unwrap_or_default().to_string())
    });
    GPU.as_ref().map_err(|reason| eprintln!("skipped: no GPU ({reason})")).ok().cloned()
}

pub fn flat(x: &Tensor) -> Result<Vec<f64>> {
    x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// ‖a − b‖∞ / ‖b‖∞, the project's measure of agreement; NaN counts as infinitely far.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "different numbers of values");
    let far = a
        .iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |far: f64, d| if d.is_nan() { f64::INFINITY } else { far.max(d) });
    let size = b.iter().map(|b| b.abs()).fold(0.0, f64::max);
    if far == 0.0 { 0.0 } else { far / size }
}

#[track_caller]
pub fn assert_close(what: &str, found: &Tensor, wanted: &Tensor, tolerance: f64) -> Result<()> {
    assert_eq!(found.dims(), wanted.dims(), "{what}: shape");
    assert_close_values(what, &flat(found)?, &flat(wanted)?, tolerance);
    Ok(())
}

#[track_caller]
pub fn assert_close_values(what: &str, found: &[f64], wanted: &[f64], tolerance: f64) {
    let distance = distance(found, wanted);
    assert!(distance <= tolerance, "{what}: off by {distance:e}, tolerance {tolerance:e}");
}

/// A small network of all layers for pictures `[N, 3, 12, 12]` and ten classes, with `widths` channels in its two blocks.
pub fn small_network(widths: [usize; 2], parameters: &Parameters, device: &Device, fused: bool) -> Result<Sequential> {
    let vb = parameters.var_builder(device);
    let same = Conv2dConfig { padding: 1, ..Default::default() };
    let mut net = Sequential::new();
    for (i, (inputs, outputs)) in [(3, widths[0]), (widths[0], widths[1])].into_iter().enumerate() {
        let conv = conv2d(inputs, outputs, 3, same, vb.pp(format!("conv{i}")))?;
        let bn = batch_norm2d(outputs, BatchNormConfig::default(), vb.pp(format!("bn{i}")))?;
        net = if fused {
            net.add(ConvBlock::new(conv, bn))
        } else {
            // A closure is no layer that `Sequential` knows, so nothing is fused.
            net.add(conv).add(bn).add(Relu).add(|x: &Tensor| ops::max_pool2d(x, 2, 2))
        };
    }
    let dense = linear(widths[1] * 9, 70, vb.pp("fc1"))?;
    Ok(net.add(Flatten).add(dense).add(Relu).add(linear(70, 10, vb.pp("fc2"))?))
}

/// How close two values of y `[N, C, H, W]` are between which ReLU and a 2×2 max-pool choose. Where rounding cannot tell
/// them apart either may be chosen, and the gradients differ.
pub fn closest_choice(y: &Tensor) -> Result<f64> {
    let (_, _, rows, columns) = y.dims4()?;
    let mut closest = f64::INFINITY;
    for plane in flat(y)?.chunks_exact(rows * columns) {
        for (r, c) in (0..rows / 2).flat_map(|r| (0..columns / 2).map(move |c| (2 * r, 2 * c))) {
            let mut window = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(i, j)| plane[(r + i) * columns + c + j]);
            window.sort_by(f64::total_cmp);
            closest = closest.min(window[3].abs());
            // Which of several negative ones is the largest does not matter: ReLU sets it to 0.
            if window[3] > 0. {
                closest = closest.min(window[3] - window[2]);
            }
        }
    }
    Ok(closest)
}
