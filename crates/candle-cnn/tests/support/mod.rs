//! What several test files share.
#![allow(dead_code)] // Each test file uses a part.

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
