//! The fused block against the separate operations in f64, and in the layers that use it.

mod support;

use candle_cnn::layers::{Activation, BatchNorm2d, BatchNormConfig, BlockPool, Gelu, batch_norm2d};
use candle_cnn::layers::{Conv2d, Conv2dConfig, ConvBlock, ConvBlockConfig, conv2d};
use candle_cnn::ops::{self, RunningStatistics};
use candle_cnn::{parameters::Parameters, trace};
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::ModuleT;
use proptest::prelude::*;
use support::{Numbers, assert_close, assert_close_values, closest_choice, flat};

#[derive(Debug, Clone)]
struct Case {
    n: usize,
    c: usize,
    o: usize,
    side: (usize, usize),
    kernel: usize,
    config: Conv2dConfig,
    bias: bool,
    affine: bool,
    train: bool,
    x_is_variable: bool,
    block: ConvBlockConfig,
    seed: u64,
}

impl Case {
    /// How close two values are between which the pool or ReLU chooses; in f64.
    fn closest_choice(&self) -> Result<f64> {
        let mut numbers = Numbers::new(self.seed);
        let mut draw = |shape: &[usize]| numbers.tensor(shape)?.to_dtype(DType::F64);
        let x = draw(&[self.n, self.c, self.side.0, self.side.1])?;
        let weight = draw(&[self.o, self.c / self.config.groups, self.kernel, self.kernel])?;
        let (bias, gamma, beta) = (draw(&[self.o])?, draw(&[self.o])?, draw(&[self.o])?);
        let running = RunningStatistics::new(self.o, DType::F64, &Device::Cpu)?;
        running.mean.set(&((draw(&[self.o])? * 0.1)? + 1.)?)?;
        let (g, b) = if self.affine { (Some(&gamma), Some(&beta)) } else { (None, None) };
        let y = ops::conv2d(&x, &weight, self.bias.then_some(&bias), self.config)?;
        let before = if self.block.pool == BlockPool::BeforeNorm { closest_in_windows(&y)? } else { f64::INFINITY };
        let y = self.pooled(y, BlockPool::BeforeNorm)?;
        let y = ops::batch_norm2d(&y, Some(&running), g, b, BatchNormConfig::default(), self.train)?;
        let behind = match (self.block.activation, self.block.pool) {
            (Activation::Relu, BlockPool::Last) => closest_choice(&y)?,
            (Activation::Relu, _) => flat(&y)?.iter().fold(f64::INFINITY, |closest, y| closest.min(y.abs())),
            (activation, BlockPool::Last) => closest_in_windows(&activated(&y, activation)?)?,
            _ => f64::INFINITY,
        };
        Ok(before.min(behind))
    }

    fn pooled(&self, y: Tensor, place: BlockPool) -> Result<Tensor> {
        if self.block.pool == place { ops::max_pool2d(&y, 2, 2) } else { Ok(y) }
    }

    /// Output, running statistics and gradients.
    fn run(&self, dtype: DType, fused: bool) -> Result<Vec<Vec<f64>>> {
        let mut numbers = Numbers::new(self.seed);
        let mut var = |shape: &[usize]| Var::from_tensor(&numbers.tensor(shape)?.to_dtype(dtype)?);
        let x = var(&[self.n, self.c, self.side.0, self.side.1])?;
        let weight = var(&[self.o, self.c / self.config.groups, self.kernel, self.kernel])?;
        let bias = var(&[self.o])?;
        let (gamma, beta) = (var(&[self.o])?, var(&[self.o])?);
        let running = RunningStatistics::new(self.o, dtype, &Device::Cpu)?;
        // Away from 0, so that its relative accuracy means something.
        running.mean.set(&((var(&[self.o])?.as_tensor() * 0.1)? + 1.)?)?;
        let bias = self.bias.then_some(&bias);
        let (gamma, beta) = if self.affine { (Some(&gamma), Some(&beta)) } else { (None, None) };
        let (g, b) = (gamma.map(|v| v.as_tensor()), beta.map(|v| v.as_tensor()));
        let input = if self.x_is_variable { x.as_tensor().clone() } else { x.as_detached_tensor() };
        let config = BatchNormConfig::default();
        let y = if fused {
            let conv = Conv2d::new(weight.as_tensor().clone(), bias.map(|v| v.as_tensor().clone()), self.config);
            let bn = BatchNorm2d::new(running.clone(), g.cloned(), b.cloned(), config)?;
            ConvBlock::with_config(conv, bn, self.block).forward_t(&input, self.train)?
        } else {
            let y = ops::conv2d(&input, &weight, bias.map(|v| v.as_tensor()), self.config)?;
            let y = self.pooled(y, BlockPool::BeforeNorm)?;
            let y = ops::batch_norm2d(&y, Some(&running), g, b, config, self.train)?;
            self.pooled(activated(&y, self.block.activation)?, BlockPool::Last)?
        };
        let dy = Numbers::new(self.seed ^ 1).tensor(y.dims())?.to_dtype(dtype)?;
        let store = (&y * dy)?.sum_all()?.backward()?;
        let mut out = vec![flat(&y)?, flat(&running.mean)?, flat(&running.var)?];
        let mut vars = vec![&weight];
        vars.extend([gamma, beta].into_iter().flatten());
        if self.x_is_variable {
            vars.push(&x);
        }
        // Where the mean takes the bias out again its gradient is 0 up to rounding, so it has no relative accuracy.
        vars.extend(bias.filter(|_| !self.train));
        for var in vars {
            out.push(flat(store.get(var).expect("a gradient"))?);
        }
        if let Some(bias) = bias.filter(|_| self.train) {
            let (bias, weight) = (flat(store.get(bias).unwrap())?, flat(store.get(&weight).unwrap())?);
            let size = |v: &[f64]| v.iter().fold(0f64, |a, b| a.max(b.abs()));
            assert!(size(&bias) <= 1e-4 * size(&weight).max(1.), "the bias's gradient is {bias:?}");
        }
        Ok(out)
    }
}

fn activated(y: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Relu => ops::relu(y),
        Activation::Gelu(Gelu::Erf) => ops::gelu(y),
        Activation::Gelu(Gelu::Tanh) => ops::gelu_tanh(y),
        Activation::None => Ok(y.clone()),
    }
}

/// How close the two largest values of a 2×2 window are.
fn closest_in_windows(y: &Tensor) -> Result<f64> {
    let lowest = y.min_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    // All positive, so that ReLU has no say.
    closest_choice(&((y - lowest)? + 1.)?)
}

fn block() -> impl Strategy<Value = ConvBlockConfig> {
    let activation = [Activation::Relu, Activation::None, Activation::Gelu(Gelu::Erf), Activation::Gelu(Gelu::Tanh)];
    let activation = prop::sample::select(activation.to_vec());
    let pool = prop::sample::select(vec![BlockPool::None, BlockPool::BeforeNorm, BlockPool::Last]);
    prop_oneof![
        Just(ConvBlockConfig::default()),
        (activation, pool).prop_map(|(activation, pool)| ConvBlockConfig { activation, pool })
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let sizes = (1usize..5, 1usize..24, 1usize..40, (2usize..15, 2usize..15));
    let settings = (prop_oneof![3 => Just(3usize), 1 => 1usize..5], 1usize..3, 1usize..3, 0usize..4, 1usize..3);
    (sizes, settings, block(), any::<[bool; 5]>(), any::<u64>()).prop_map(
        |((n, c, o, side), (kernel, stride, dilation, padding, groups), block, flags, seed)| {
            let [bias, affine, train, x_is_variable, usual] = flags;
            let config = if usual {
                Conv2dConfig { padding: kernel / 2, ..Default::default() }
            } else {
                Conv2dConfig { padding, stride, dilation, groups }
            };
            // Large enough that the pool has a window and the variance more than a few values.
            let room = |size: usize| size.max(config.dilation * (kernel - 1) + 3 * config.stride + 1);
            let (c, o) = (c.div_ceil(config.groups) * config.groups, o.div_ceil(config.groups) * config.groups);
            let side = (room(side.0), room(side.1));
            Case { n: n + 1, c, o, side, kernel, config, bias, affine, train, x_is_variable, block, seed }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn fused_and_separate_agree(case in case()) {
        // Batch norm takes out the scale of the weights: with one weight a channel nothing but rounding is left of its
        // gradient.
        prop_assume!(case.c / case.config.groups * case.kernel * case.kernel >= 4);
        prop_assume!(case.closest_choice().unwrap() > 1e-5);
        let wanted = case.run(DType::F64, false).unwrap();
        // One after another the four share a backward pass too.
        for fused in [true, false] {
            let found = case.run(DType::F32, fused).unwrap();
            prop_assert_eq!(wanted.len(), found.len());
            for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                // A gradient of batch norm is a sum over all pixels, which may cancel to a small part of its terms.
                assert_close_values(&format!("fused {fused}, result {i}"), found, wanted, 1e-4);
            }
        }
    }
}

/// What lies between the four operations may be used otherwise too: its gradients add up.
#[test]
fn tensors_between_keep_their_gradients() -> Result<()> {
    let run = |dtype: DType| -> Result<Vec<Vec<f64>>> {
        let mut numbers = Numbers::new(77);
        let mut var = |shape: &[usize]| Var::from_tensor(&numbers.tensor(shape)?.to_dtype(dtype)?);
        let (x, weight, bias) = (var(&[3, 2, 6, 6])?, var(&[5, 2, 3, 3])?, var(&[5])?);
        let (gamma, beta) = (var(&[5])?, var(&[5])?);
        let c = ops::conv2d(&x, &weight, Some(&bias), Conv2dConfig { padding: 1, ..Default::default() })?;
        let b = ops::batch_norm2d(&c, None, Some(&gamma), Some(&beta), BatchNormConfig::default(), true)?;
        let r = ops::relu(&b)?;
        let p = ops::max_pool2d(&r, 2, 2)?;
        let loss = ((p.sqr()?.sum_all()? + c.sqr()?.sum_all()?)? + (b.powf(3.)?.sum_all()? + r.sqr()?.sum_all()?)?)?;
        let store = loss.backward()?;
        [&x, &weight, &bias, &gamma, &beta].map(|v| flat(store.get(v).unwrap())).into_iter().collect()
    };
    for (i, (found, wanted)) in run(DType::F32)?.iter().zip(&run(DType::F64)?).enumerate() {
        assert_close_values(&format!("gradient {i}"), found, wanted, 1e-5);
    }
    Ok(())
}

/// NaN goes through as it does through the separate operations.
#[test]
fn nan_is_not_hidden() -> Result<()> {
    let mut x = Numbers::new(1).tensor(&[2, 1, 4, 4])?.flatten_all()?.to_vec1::<f32>()?;
    x[5] = f32::NAN;
    let x = Tensor::from_vec(x, (2, 1, 4, 4), &Device::Cpu)?;
    let weight = Tensor::ones((1, 1, 1, 1), DType::F32, &Device::Cpu)?;
    let running = RunningStatistics::new(1, DType::F32, &Device::Cpu)?;
    let bn = BatchNorm2d::new(running, None, None, BatchNormConfig::default())?;
    let block = ConvBlock::new(Conv2d::new(weight, None, Conv2dConfig::default()), bn);
    let y = flat(&block.forward_t(&x, false)?)?;
    assert!(y[0].is_nan() && y[1..].iter().all(|y| !y.is_nan()), "{y:?}");
    let y = flat(&block.forward_t(&x, true)?)?;
    assert!(y.iter().all(|y| y.is_nan()), "{y:?}");
    // Nor does an infinity, which is no picture's first value here, leave numbers: its variance is NaN.
    let x = x
        .ones_like()?
        .slice_assign(&[0..1, 0..1, 0..1, 2..3], &Tensor::full(f32::INFINITY, (1, 1, 1, 1), &Device::Cpu)?)?;
    let running = RunningStatistics::new(1, DType::F32, &Device::Cpu)?;
    let bn = BatchNorm2d::new(running.clone(), None, None, BatchNormConfig::default())?;
    for y in [block.forward_t(&x, true)?, bn.forward_t(&x, true)?] {
        assert!(flat(&y)?.iter().all(|y| y.is_nan()), "{y}");
    }
    assert!(flat(running.var.as_tensor())?[0].is_nan());
    Ok(())
}

/// What else the thread computes between the four operations makes no difference to their gradients, to the bit.
#[test]
fn chains_may_be_interleaved() -> Result<()> {
    let same = Conv2dConfig { padding: 1, ..Default::default() };
    let run = |interleaved: bool| -> Result<Vec<Vec<f64>>> {
        let mut numbers = Numbers::new(5);
        let mut var = |shape: &[usize]| Var::from_tensor(&numbers.tensor(shape)?);
        let (x, weights) = (var(&[2, 3, 6, 6])?, [var(&[5, 3, 3, 3])?, var(&[5, 3, 3, 3])?]);
        let conv = |weight: &Var| ops::conv2d(&x, weight, None, same);
        let bn = |x: &Tensor| ops::batch_norm2d(x, None, None, None, BatchNormConfig::default(), true);
        let pool = |x: &Tensor| ops::max_pool2d(&ops::relu(x)?, 2, 2);
        let [a, b] = if interleaved {
            let (a, b) = (conv(&weights[0])?, conv(&weights[1])?);
            let (a, b) = (bn(&a)?, bn(&b)?);
            let (a, b) = (ops::relu(&a)?, ops::relu(&b)?);
            [ops::max_pool2d(&a, 2, 2)?, ops::max_pool2d(&b, 2, 2)?]
        } else {
            [pool(&bn(&conv(&weights[0])?)?)?, pool(&bn(&conv(&weights[1])?)?)?]
        };
        let dy = numbers_like(&a)?;
        let store = ((a + b)? * dy)?.sum_all()?.backward()?;
        [&x, &weights[0], &weights[1]].map(|var| flat(store.get(var).expect("a gradient"))).into_iter().collect()
    };
    assert_eq!(run(true)?, run(false)?);
    Ok(())
}

fn numbers_like(x: &Tensor) -> Result<Tensor> {
    Numbers::new(6).tensor(x.dims())
}

/// A recording shows the four layers of a block, which give what the block gives.
#[test]
fn a_recording_shows_the_layers_of_a_block() -> Result<()> {
    let same = Conv2dConfig { padding: 1, ..Default::default() };
    let block = || -> Result<ConvBlock> {
        let vb = Parameters::new(3).var_builder(&Device::Cpu);
        let bn = batch_norm2d(8, BatchNormConfig::default(), vb.pp("bn"))?;
        Ok(ConvBlock::new(conv2d(3, 8, 3, same, vb.pp("conv"))?, bn))
    };
    let x = Numbers::new(9).tensor(&[4, 3, 8, 8])?;
    let fused = block()?.forward_t(&x, true)?;
    let (recorded, calls) = trace::record(|| block()?.forward_t(&x, true));
    assert_close("output", &fused, &recorded?, 1e-5)?;
    let kinds: Vec<_> = calls.iter().map(|call| call.kind).collect();
    assert_eq!(kinds, ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]);
    Ok(())
}
