//! TF32 and bf16 on a GPU against f32; says "skipped: no GPU" where there is none. The precision is the whole process's, so
//! this is one test in a program of its own.
#![cfg(feature = "cuda")]

mod support;

use candle_cnn::ops::{self, Conv2dConfig};
use candle_cnn::precision::{Precision, set_precision};
use candle_core::{Device, Result, Tensor};
use support::{Numbers, distance, flat};

/// A convolution's and a dense layer's values and gradients.
fn products(device: &Device) -> Result<Vec<Vec<f64>>> {
    let mut numbers = Numbers::new(1);
    let mut var = |shape: &[usize]| candle_core::Var::from_tensor(&numbers.tensor(shape)?.to_device(device)?);
    let (x, weight, dense) = (var(&[8, 16, 12, 12])?, var(&[24, 16, 3, 3])?, var(&[10, 24 * 144])?);
    let y = ops::conv2d(&x, &weight, None, Conv2dConfig { padding: 1, ..Default::default() })?;
    let logits = ops::linear(&ops::flatten(&y)?, &dense, None)?;
    let store = logits.sqr()?.mean_all()?.backward()?;
    let gradient = |var: &Tensor| flat(store.get(var).expect("a gradient"));
    Ok(vec![flat(&y)?, flat(&logits)?, gradient(&x)?, gradient(&weight)?, gradient(&dense)?])
}

#[test]
fn reduced_precision_is_as_close_as_its_bits() -> Result<()> {
    let Some(gpu) = support::gpu() else { return Ok(()) };
    let exact = products(&gpu)?;
    // Half a unit of the last of 11 and of 8 bits; two factors, each product of a chain of two, and a small reserve.
    for (precision, unit) in [(Precision::Tf32, 2f64.powi(-12)), (Precision::Bf16, 2f64.powi(-9))] {
        set_precision(precision);
        let (found, again) = (products(&gpu)?, products(&gpu)?);
        assert!(found == again, "{precision}: other bits the second time");
        for (i, (found, exact)) in found.iter().zip(&exact).enumerate() {
            let distance = distance(found, exact);
            assert!(distance <= 8.0 * unit, "{precision}, result {i}: off by {distance:e}");
        }
        assert!(found != exact, "{precision} changes nothing: is the GPU older than compute capability 8.0?");
    }
    set_precision(Precision::F32);
    assert!(products(&gpu)? == exact, "f32 after the others");
    Ok(())
}
