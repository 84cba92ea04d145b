//! Operations, gradients and training on a GPU against the CPU; each says "skipped: no GPU" where there is none.
#![cfg(feature = "cuda")]

mod support;

use candle_cnn::layers::{BatchNorm2d, BatchNormConfig, Conv2d, Conv2dConfig, ConvBlock, Gelu};
use candle_cnn::ops::{self, CrossEntropyConfig, Placement, Reduction, RunningStatistics};
use candle_cnn::optim::{
    AdamW, AdamWConfig, Capturable, Muon, MuonConfig, MuonScaling, ParameterGroup, SGD, SgdConfig,
};
use candle_cnn::parameters::Parameters;
use candle_cnn::step_graph::StepGraph;
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Module, ModuleT, Optimizer};
use support::{Numbers, assert_close, flat, gpu, small_network};

const TOLERANCE: f64 = 1e-4;

/// Variables of the same values on any device.
struct Inputs {
    numbers: Numbers,
    device: Device,
    dtype: DType,
}

impl Inputs {
    fn var(&mut self, shape: &[usize]) -> Result<Var> {
        Var::from_tensor(&self.numbers.tensor(shape)?.to_dtype(self.dtype)?.to_device(&self.device)?)
    }

    /// A size from `low` to `high`.
    fn size(&mut self, low: usize, high: usize) -> usize {
        low + ((self.numbers.one() + 1.0) / 2.0 * (high - low + 1) as f64) as usize
    }

    /// The output, and the gradients of `inputs` for an output's gradient drawn at random.
    fn gradients(&mut self, y: Tensor, inputs: &[&Var]) -> Result<Vec<Tensor>> {
        let dy = self.var(y.dims())?;
        let store = (&y * dy.as_detached_tensor())?.sum_all()?.backward()?;
        let mut all = vec![y];
        all.extend(inputs.iter().map(|&input| store.get(input).expect("a gradient").clone()));
        Ok(all)
    }
}

/// Runs `f` for several seeds on the CPU and twice on the GPU: close to the CPU, and the same bits both times.
fn compare(name: &str, dtype: DType, f: impl Fn(&mut Inputs) -> Result<Vec<Tensor>>) -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    for seed in 0..12 {
        let run = |device: &Device| f(&mut Inputs { numbers: Numbers::new(seed), device: device.clone(), dtype });
        let (wanted, found, again) = (run(&Device::Cpu)?, run(&gpu)?, run(&gpu)?);
        assert_eq!(wanted.len(), found.len());
        for (i, ((wanted, found), again)) in wanted.iter().zip(&found).zip(&again).enumerate() {
            assert_close(&format!("{name}, seed {seed}, result {i}"), found, wanted, TOLERANCE)?;
            assert!(flat(found)? == flat(again)?, "{name}, seed {seed}, result {i}: other bits the second time");
        }
    }
    Ok(())
}

#[test]
fn memory_stays_in_the_pool() -> Result<()> {
    use candle_core::cuda_backend::WrapErr;
    use candle_core::cuda_backend::cudarc::driver::{result, sys::CUmemPool_attribute};
    let Some(gpu) = gpu() else { return Ok(()) };
    ops::relu(&Tensor::ones((2, 2), DType::F32, &gpu)?)?;
    let threshold = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    let mut kept = 0u64;
    let device = gpu.as_cuda_device()?.cuda_stream().context().cu_device();
    // SAFETY: the device is the context's, the pool the device's, and the attribute a number of 64 bits.
    unsafe {
        let pool = result::device::get_mem_pool(device).w()?;
        result::mem_pool::get_attribute(pool, threshold, std::ptr::from_mut(&mut kept).cast()).w()?;
    }
    assert_eq!(kept, u64::MAX);
    Ok(())
}

#[test]
fn relu() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        compare("relu", dtype, |inputs| {
            let shape = [inputs.size(1, 5), inputs.size(1, 400)];
            let x = inputs.var(&shape)?;
            inputs.gradients(ops::relu(&x)?, &[&x])
        })?;
    }
    Ok(())
}

#[test]
fn gelu() -> Result<()> {
    for form in [Gelu::Erf, Gelu::Tanh] {
        compare("gelu", DType::F32, |inputs| {
            let shape = [inputs.size(1, 5), inputs.size(1, 400)];
            let x = inputs.var(&shape)?;
            inputs.gradients(form.forward(&ops::scale(&x, 4.0)?)?, &[&x])
        })?;
    }
    Ok(())
}

#[test]
fn pools() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        compare("pools", dtype, |inputs| {
            let (kernel, stride) = ((inputs.size(1, 4), inputs.size(1, 4)), (inputs.size(1, 3), inputs.size(1, 3)));
            let shape =
                [inputs.size(1, 4), inputs.size(1, 5), kernel.0 + inputs.size(0, 9), kernel.1 + inputs.size(0, 9)];
            let x = inputs.var(&shape)?;
            let mut all = inputs.gradients(ops::max_pool2d(&x, kernel, stride)?, &[&x])?;
            all.extend(inputs.gradients(ops::avg_pool2d(&x, kernel, stride)?, &[&x])?);
            Ok(all)
        })?;
    }
    Ok(())
}

#[test]
fn batch_norm() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        compare("batch norm", dtype, |inputs| {
            let c = inputs.size(1, 40);
            let shape = [inputs.size(2, 33), c, inputs.size(1, 20), inputs.size(1, 20)];
            let (x, weight, bias) = (inputs.var(&shape)?, inputs.var(&[c])?, inputs.var(&[c])?);
            let running = RunningStatistics::new(c, dtype, &inputs.device)?;
            let mut all = Vec::new();
            let config = ops::BatchNormConfig::default();
            for train in [true, false] {
                let y = ops::batch_norm2d(&x, Some(&running), Some(&weight), Some(&bias), config, train)?;
                all.extend(inputs.gradients(y, &[&x, &weight, &bias])?);
            }
            let y = ops::batch_norm2d(&x, None, None, Some(&bias), config, true)?;
            all.extend(inputs.gradients(y, &[&x, &bias])?);
            let batches = running.num_batches_tracked.as_ref().expect("a count").as_detached_tensor();
            all.extend([running.mean.as_detached_tensor(), running.var.as_detached_tensor(), batches]);
            Ok(all)
        })?;
    }
    Ok(())
}

#[test]
fn cross_entropy() -> Result<()> {
    compare("cross entropy", DType::F32, |inputs| {
        let (n, c) = (inputs.size(1, 600), inputs.size(1, 300));
        let logits = inputs.var(&[n, c])?;
        let labels: Vec<u32> = (0..n).map(|_| inputs.size(0, c.min(256) - 1) as u32).collect();
        let mut all = Vec::new();
        for (dtype, smoothing) in [(DType::U8, 0.0), (DType::U32, 0.1), (DType::I64, 0.0)] {
            let labels = Tensor::new(labels.as_slice(), &inputs.device)?.to_dtype(dtype)?;
            let reduction = if dtype == DType::U8 { Reduction::Sum } else { Reduction::Mean };
            let config = CrossEntropyConfig { label_smoothing: smoothing, reduction };
            let loss = ops::cross_entropy_with(&logits, &labels, config)?;
            all.extend(inputs.gradients(loss, &[&logits])?);
        }
        Ok(all)
    })
}

#[test]
fn batches_out_of_a_stored_set() -> Result<()> {
    compare("gather_images", DType::F32, |inputs| {
        let [n, c, h, w] = [inputs.size(1, 9), inputs.size(1, 3), inputs.size(1, 20), inputs.size(1, 20)];
        let pictures = (inputs.var(&[n, c, h, w])?.as_detached_tensor().affine(127.0, 128.0)?).to_dtype(DType::U8)?;
        let placements: Vec<Placement> = (0..inputs.size(1, 40))
            .map(|_| {
                let (down, right) = (inputs.size(0, 8) as i32 - 4, inputs.size(0, 8) as i32 - 4);
                let [mirrored, reflected] = [inputs.size(0, 1), inputs.size(0, 1)].map(|side| side == 1);
                Placement { index: inputs.size(0, n - 1), mirrored, down, right, reflected }
            })
            .collect();
        let table = inputs.var(&[c, 256])?.as_detached_tensor();
        Ok(vec![ops::gather_images(&pictures, &Placement::tensor(&placements, &inputs.device)?, &table)?])
    })
}

#[test]
fn right_answers() -> Result<()> {
    compare("count_correct", DType::F32, |inputs| {
        let (n, c) = (inputs.size(1, 600), inputs.size(1, 300));
        // Ties are frequent.
        let logits = (inputs.var(&[n, c])?.as_detached_tensor() * 4.0)?.round()?;
        let labels: Vec<u32> = (0..n).map(|_| inputs.size(0, c.min(256) - 1) as u32).collect();
        let labels = Tensor::new(labels.as_slice(), &inputs.device)?;
        let count = |dtype| ops::count_correct(&logits, &labels.to_dtype(dtype)?);
        [DType::U8, DType::U32, DType::I64].into_iter().map(count).collect()
    })
}

#[test]
fn a_label_that_is_no_class_makes_nan() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let logits = Tensor::zeros((2, 3), DType::F32, &gpu)?;
    let loss = ops::cross_entropy(&logits, &Tensor::new(&[0u32, 3], &gpu)?)?;
    assert!(loss.to_scalar::<f32>()?.is_nan());
    Ok(())
}

#[test]
fn dense_layers() -> Result<()> {
    compare("linear", DType::F32, |inputs| {
        let (n, i, o) = (inputs.size(1, 70), inputs.size(1, 300), inputs.size(1, 70));
        let (x, weight, bias) = (inputs.var(&[n, i])?, inputs.var(&[o, i])?, inputs.var(&[o])?);
        let mut all = inputs.gradients(ops::linear(&x, &weight, Some(&bias))?, &[&x, &weight, &bias])?;
        let x = inputs.var(&[2, n, i])?;
        all.extend(inputs.gradients(ops::linear(&x, &weight, None)?, &[&x, &weight])?);
        Ok(all)
    })
}

#[test]
fn convolution() -> Result<()> {
    compare("conv2d", DType::F32, |inputs| {
        let kernel = [inputs.size(1, 4), inputs.size(1, 4)];
        let (stride, dilation, padding) = (inputs.size(1, 2), inputs.size(1, 2), inputs.size(0, 3));
        let (n, c, o) = (inputs.size(1, 5), inputs.size(1, 20), inputs.size(1, 20));
        let side = |kernel: usize, rest: usize| dilation * (kernel - 1) + 1 + rest;
        let shape = [n, c, side(kernel[0], inputs.size(0, 9)), side(kernel[1], inputs.size(0, 9))];
        let (x, weight) = (inputs.var(&shape)?, inputs.var(&[o, c, kernel[0], kernel[1]])?);
        let bias = inputs.var(&[o])?;
        let config = Conv2dConfig { padding, stride, dilation, groups: 1 };
        let y = ops::conv2d(&x, &weight, Some(&bias), config)?;
        inputs.gradients(y, &[&x, &weight, &bias])
    })
}

/// As in networks: cuDNN has algorithms of its own for 3×3 pixels and many channels.
#[test]
fn convolution_of_many_channels() -> Result<()> {
    compare("conv2d of many channels", DType::F32, |inputs| {
        let (n, c, o) = (inputs.size(1, 4), 32 * inputs.size(1, 4), 32 * inputs.size(1, 4));
        let side = 2 * inputs.size(1, 5);
        let (x, weight) = (inputs.var(&[n, c, side, side])?, inputs.var(&[o, c, 3, 3])?);
        let config = Conv2dConfig { padding: 1, ..Default::default() };
        inputs.gradients(ops::conv2d(&x, &weight, None, config)?, &[&x, &weight])
    })
}

/// Batch norm, ReLU and pool by themselves, and fused, on the same convolution's output.
#[test]
fn conv_block() -> Result<()> {
    compare("conv block", DType::F32, |inputs| {
        let (n, c, o) = (inputs.size(1, 3), inputs.size(1, 4), inputs.size(1, 5));
        let shape = [n, c, inputs.size(3, 7), inputs.size(3, 7)];
        let (x, weight, bias) = (inputs.var(&shape)?, inputs.var(&[o, c, 3, 3])?, inputs.var(&[o])?);
        let (gamma, beta) = (inputs.var(&[o])?, inputs.var(&[o])?);
        let running = RunningStatistics::new(o, DType::F32, &inputs.device)?;
        let config = Conv2dConfig { padding: 1, ..Default::default() };
        let mut all = Vec::new();
        for train in [true, false] {
            let close = closest_choice(&x, &weight, &bias, &gamma, &beta, &running, train)? < 1e-3;
            let [w, b, scale, shift] = [&weight, &bias, &gamma, &beta].map(|var| var.as_tensor().clone());
            let bn = BatchNorm2d::new(running.clone(), Some(scale), Some(shift), BatchNormConfig::default())?;
            let y = ConvBlock::new(Conv2d::new(w, Some(b), config), bn).forward_t(&x, train)?;
            let results = inputs.gradients(y, &[&x, &weight, &gamma, &beta])?;
            // Where rounding decides what the pool or ReLU chooses, only the values are the same.
            all.extend(results.into_iter().take(if close { 1 } else { 5 }));
        }
        all.extend([running.mean.as_detached_tensor(), running.var.as_detached_tensor()]);
        Ok(all)
    })
}

/// How close the values are between which the pool or ReLU chooses; in f64 on the CPU, so the same for all devices.
fn closest_choice(
    x: &Var,
    weight: &Var,
    bias: &Var,
    gamma: &Var,
    beta: &Var,
    running: &RunningStatistics,
    train: bool,
) -> Result<f64> {
    let wide = |x: &Tensor| x.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64);
    let same = Conv2dConfig { padding: 1, ..Default::default() };
    let copy = RunningStatistics::new(bias.dims1()?, DType::F64, &Device::Cpu)?;
    copy.mean.set(&wide(&running.mean)?)?;
    copy.var.set(&wide(&running.var)?)?;
    let y = ops::conv2d(&wide(x)?, &wide(weight)?, Some(&wide(bias)?), same)?;
    let y = ops::batch_norm2d(&y, Some(&copy), Some(&wide(gamma)?), Some(&wide(beta)?), Default::default(), train)?;
    support::closest_choice(&y)
}

/// A small network of all layers, trained for ten steps; its losses, parameters and an inference's logits.
fn train(device: &Device, fused: bool, adamw: bool) -> Result<Vec<Tensor>> {
    let parameters = Parameters::new(5);
    let net = small_network([16, 32], &parameters, device, fused)?;
    let vars = parameters.trainable();
    let sgd = SgdConfig { learning_rate: 0.01, momentum: 0.9, weight_decay: 1e-3, ..Default::default() };
    let mut sgd = SGD::new(vars.clone(), sgd)?;
    let mut adam = AdamW::new(vars.clone(), AdamWConfig::default())?;
    let mut numbers = Numbers::new(6);
    let mut all = Vec::new();
    for _ in 0..10 {
        let x = numbers.tensor(&[37, 3, 12, 12])?.to_device(device)?;
        let labels = Tensor::from_vec((0..37u32).map(|i| i % 10).collect(), 37, device)?;
        let loss = ops::cross_entropy(&net.forward_t(&x, true)?, &labels)?;
        if adamw {
            adam.backward_step(&loss)?
        } else {
            sgd.backward_step(&loss)?
        }
        all.push(loss.detach());
    }
    // The block gives the convolution's bias the gradient 0, the separate operations what rounding leaves of it.
    let last = vars.iter().filter(|var| var.rank() > 1).map(|var| var.as_detached_tensor().copy());
    all.extend(last.collect::<Result<Vec<_>>>()?);
    // AdamW makes steps of that rest, which the running mean follows.
    if fused || !adamw {
        all.push(net.forward_t(&numbers.tensor(&[5, 3, 12, 12])?.to_device(device)?, false)?.detach());
    }
    Ok(all)
}

#[test]
fn ten_steps() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    for fused in [true, false] {
        // AdamW divides by the root of the gradient's square, which magnifies rounding where the gradient is near 0.
        for (adamw, tolerance) in [(false, 1e-3), (true, 1e-2)] {
            let (wanted, found, again) =
                (train(&Device::Cpu, fused, adamw)?, train(&gpu, fused, adamw)?, train(&gpu, fused, adamw)?);
            for (i, ((wanted, found), again)) in wanted.iter().zip(&found).zip(&again).enumerate() {
                let what = format!("fused {fused}, AdamW {adamw}, result {i}");
                assert_close(&what, found, wanted, tolerance)?;
                assert!(flat(found)? == flat(again)?, "{what}: other bits the second time");
            }
        }
    }
    Ok(())
}

/// Twenty steps, the learning rate another at each, the tenth batch a short one, after which `restore` puts the
/// optimizer's state back. Losses, counts and all parameters.
fn train_by_graph<O: Capturable>(
    gpu: &Device,
    by_graph: bool,
    optimizer: impl FnOnce(Vec<Var>) -> Result<O>,
    restore: impl Fn(&mut O) -> Result<()>,
) -> Result<Vec<Vec<f64>>> {
    let parameters = Parameters::new(5);
    let net = small_network([16, 32], &parameters, gpu, true)?;
    let mut optimizer = optimizer(parameters.trainable())?;
    let forward = |images: &Tensor, labels: &Tensor| {
        let logits = net.forward_t(images, true)?;
        Ok((ops::cross_entropy(&logits, labels)?, logits))
    };
    let (mut step, mut numbers, mut all) = (StepGraph::new(forward), Numbers::new(6), Vec::new());
    for i in 0..20 {
        optimizer.set_learning_rate(0.001 * (i + 1) as f64);
        let n = if i == 9 { 3 } else { 37 };
        let images = numbers.tensor(&[n, 3, 12, 12])?.to_device(gpu)?;
        let labels = Tensor::from_vec((0..n as u32).map(|i| i % 10).collect(), n, gpu)?;
        let (loss, correct) = if by_graph {
            let result = step.run(&mut optimizer, &images, &labels)?;
            // The fourth is captured; after the state was put back three run without a graph again.
            assert_eq!(step.is_captured(), (3..=9).contains(&i) || i >= 13, "step {i}");
            (result.loss, result.correct)
        } else {
            let (loss, logits) = forward(&images, &labels)?;
            optimizer.backward_step(&loss)?;
            (loss, ops::count_correct(&logits, &labels)?)
        };
        all.extend([flat(&loss)?, flat(&correct.to_dtype(DType::I64)?)?]);
        if i == 9 {
            restore(&mut optimizer)?;
        }
    }
    drop(step);
    let state = parameters.state_dict()?;
    let mut names: Vec<_> = state.keys().collect();
    names.sort();
    all.extend(names.into_iter().map(|name| flat(&state[name])).collect::<Result<Vec<_>>>()?);
    Ok(all)
}

#[test]
fn a_captured_step_gives_the_bits_of_a_plain_one() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let sgd = |vars| SGD::new(vars, SgdConfig { momentum: 0.9, weight_decay: 1e-3, ..Default::default() });
    let again = |sgd: &mut SGD| sgd.load_state(&sgd.state()?);
    assert!(train_by_graph(&gpu, true, sgd, again)? == train_by_graph(&gpu, false, sgd, again)?, "SGD");
    let adamw = |vars| AdamW::new(vars, AdamWConfig::default());
    let again = |adamw: &mut AdamW| adamw.load_state(&adamw.state()?);
    assert!(train_by_graph(&gpu, true, adamw, again)? == train_by_graph(&gpu, false, adamw, again)?, "AdamW");
    Ok(())
}

/// Muon steps by candle's operations, SGD beside it by this crate's kernel.
#[test]
fn muon_and_sgd() -> Result<()> {
    compare("Muon", DType::F32, |inputs| {
        let scaling = if inputs.size(0, 1) == 0 { MuonScaling::Updates } else { MuonScaling::Weights };
        let config = MuonConfig { steps: 3, scaling, ..Default::default() };
        let weights = [inputs.var(&[12, 5])?, inputs.var(&[6, 2, 3, 3])?];
        let bias = inputs.var(&[7])?;
        let muon = ParameterGroup { vars: weights.to_vec(), config };
        let sgd = SgdConfig { learning_rate: 0.1, momentum: 0.9, nesterov: true, ..Default::default() };
        let mut optimizer = Muon::with_sgd(vec![muon], vec![ParameterGroup { vars: vec![bias.clone()], config: sgd }])?;
        for _ in 0..3 {
            let mut loss = (bias.as_tensor() * inputs.var(&[7])?.as_detached_tensor())?.sum_all()?;
            for weight in &weights {
                loss = (loss + (weight.as_tensor() * inputs.var(weight.dims())?.as_detached_tensor())?.sum_all()?)?;
            }
            optimizer.backward_step(&loss)?;
        }
        Ok(weights.iter().chain([&bias]).map(|var| var.as_detached_tensor()).collect())
    })
}

/// More parameters than one table holds, saved and restored.
#[test]
fn an_optimizer_goes_on_from_its_state() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let mut numbers = Numbers::new(7);
    let start = (0..60).map(|i| numbers.tensor(&[1 + 37 * i])?.to_device(&gpu)).collect::<Result<Vec<_>>>()?;
    let vars = start.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
    let config = SgdConfig { learning_rate: 0.1, momentum: 0.9, ..Default::default() };
    let mut sgd = SGD::new(vars.clone(), config)?;
    let loss = |vars: &[Var]| -> Result<Tensor> {
        let sums = vars.iter().map(|var| var.sqr()?.sum_all()).collect::<Result<Vec<_>>>()?;
        Tensor::stack(&sums, 0)?.sum_all()
    };
    sgd.backward_step(&loss(&vars)?)?;
    let (state, copies) =
        (sgd.state()?, vars.iter().map(|v| Var::from_tensor(&v.copy()?)).collect::<Result<Vec<_>>>()?);
    sgd.backward_step(&loss(&vars)?)?;
    let mut again = SGD::new(copies.clone(), config)?;
    again.load_state(&state)?;
    again.backward_step(&loss(&copies)?)?;
    for ((var, copy), start) in vars.iter().zip(&copies).zip(&start) {
        assert!(flat(var)? == flat(copy)?);
        // p - 0.1 · 2 p = 0.8 p, then 0.8 p - 0.1 · (0.9 · 2 + 1.6) p = 0.46 p.
        assert_close("two steps", var, &(start * 0.46)?, 1e-5)?;
    }
    Ok(())
}
