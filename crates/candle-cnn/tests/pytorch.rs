//! Agreement with PyTorch, by fixtures that `fixtures/make_fixtures.py` wrote.

mod support;

use candle_cnn::layers::{BatchNormConfig, Conv2dConfig, ConvBlock, Gelu};
use candle_cnn::layers::{batch_norm2d, conv2d, conv2d_dirac, conv2d_no_bias, linear};
use candle_cnn::ops::{self, CrossEntropyConfig, Reduction, RunningStatistics};
use candle_cnn::optim::{self, AdamW, AdamWConfig, Muon, MuonConfig, MuonScaling, ParameterGroup, SGD, SgdConfig};
use candle_cnn::parameters::Parameters;
use candle_cnn::schedule::Schedule;
use candle_cnn::{init, linalg};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Module, ModuleT, Optimizer, VarBuilder};
use std::collections::HashMap;
use support::{Numbers, assert_close, assert_close_values, flat};

/// The design's tolerance for operations in f32.
const TOLERANCE: f64 = 1e-5;

/// In the program itself, which may run on another machine.
fn fixtures(name: &str) -> Result<HashMap<String, Tensor>> {
    let file: &[u8] = match name {
        "operations" => include_bytes!("fixtures/operations.safetensors"),
        "optimizers" => include_bytes!("fixtures/optimizers.safetensors"),
        "training" => include_bytes!("fixtures/training.safetensors"),
        _ => candle_core::bail!("there are no fixtures {name:?}"),
    };
    candle_core::safetensors::load_buffer(file, &Device::Cpu)
}

/// The settings of each case of an operation.
fn cases(fixtures: &HashMap<String, Tensor>, operation: &str) -> Result<Vec<Vec<usize>>> {
    (0..)
        .map_while(|i| fixtures.get(&format!("{operation}.{i}.case")))
        .map(|case| Ok(case.to_vec1::<i64>()?.into_iter().map(|v| v as usize).collect()))
        .collect()
}

/// Compares an output and the gradients of `inputs` with a case's, for an output gradient drawn from `numbers`.
fn check(
    fixtures: &HashMap<String, Tensor>,
    case: &str,
    y: &Tensor,
    inputs: &[(&str, Option<&Var>)],
    numbers: &mut Numbers,
) -> Result<()> {
    assert_close(&format!("{case}.y"), y, &fixtures[&format!("{case}.y")], TOLERANCE)?;
    let gradients = (y * numbers.tensor(y.dims())?)?.sum_all()?.backward()?;
    for (name, input) in inputs {
        if let Some(input) = input {
            let (key, found) = (format!("{case}.d{name}"), gradients.get(input).expect("a gradient"));
            assert_close(&key, found, &fixtures[&key], TOLERANCE)?;
        }
    }
    Ok(())
}

#[test]
fn convolutions() -> Result<()> {
    let fixtures = fixtures("operations")?;
    let cases = cases(&fixtures, "conv2d")?;
    assert_eq!(cases.len(), 8);
    for (i, case) in cases.into_iter().enumerate() {
        let [n, c, h, w, o, kh, kw, padding, stride, dilation, groups, bias] = case[..] else { panic!("{case:?}") };
        let mut numbers = Numbers::new(100 + i as u64);
        let x = numbers.var(&[n, c, h, w])?;
        let weight = numbers.var(&[o, c / groups, kh, kw])?;
        let bias = (bias == 1).then(|| numbers.var(&[o])).transpose()?;
        let config = Conv2dConfig { padding, stride, dilation, groups };
        let y = ops::conv2d(&x, &weight, bias.as_deref(), config)?;
        let inputs = [("x", Some(&x)), ("weight", Some(&weight)), ("bias", bias.as_ref())];
        check(&fixtures, &format!("conv2d.{i}"), &y, &inputs, &mut numbers)?;
    }
    Ok(())
}

#[test]
fn batch_norms() -> Result<()> {
    let fixtures = fixtures("operations")?;
    let cases = cases(&fixtures, "batch_norm2d")?;
    assert_eq!(cases.len(), 4);
    for (i, case) in cases.into_iter().enumerate() {
        let [n, c, h, w, train] = case[..] else { panic!("{case:?}") };
        let mut numbers = Numbers::new(200 + i as u64);
        let x = Var::from_tensor(&(numbers.tensor(&[n, c, h, w])? + 3.)?)?;
        let (weight, bias) = (numbers.var(&[c])?, numbers.var(&[c])?);
        let mean = numbers.var(&[c])?;
        let var = Var::from_tensor(&(numbers.tensor(&[c])? + 1.5)?)?;
        let count = Var::new(5i64, &Device::Cpu)?;
        let running = RunningStatistics { mean, var, num_batches_tracked: Some(count.clone()) };
        let config = BatchNormConfig::default();
        let y = ops::batch_norm2d(&x, Some(&running), Some(&weight), Some(&bias), config, train == 1)?;
        let inputs = [("x", Some(&x)), ("weight", Some(&weight)), ("bias", Some(&bias))];
        check(&fixtures, &format!("batch_norm2d.{i}"), &y, &inputs, &mut numbers)?;
        assert_close("mean", &running.mean, &fixtures[&format!("batch_norm2d.{i}.mean")], TOLERANCE)?;
        assert_close("var", &running.var, &fixtures[&format!("batch_norm2d.{i}.var")], TOLERANCE)?;
        assert_eq!(count.to_scalar::<i64>()?, 5 + train as i64);
    }
    Ok(())
}

#[test]
fn batch_norms_with_one_parameter() -> Result<()> {
    let fixtures = fixtures("operations")?;
    for (i, part) in ["bias", "weight"].into_iter().enumerate() {
        let mut numbers = Numbers::new(210 + i as u64);
        let (x, parameter) = (numbers.var(&[4, 3, 5, 5])?, numbers.var(&[3])?);
        let config =
            BatchNormConfig { eps: 1e-12, weight: part == "weight", bias: part == "bias", ..Default::default() };
        // As a layer, which has the parameters that it is asked for.
        let bn = batch_norm2d(
            3,
            config,
            VarBuilder::from_tensors(
                [(part.to_string(), parameter.as_tensor().clone())]
                    .into_iter()
                    .chain(
                        ["running_mean", "running_var"].map(|name| (name.to_string(), parameter.as_detached_tensor())),
                    )
                    .collect(),
                DType::F32,
                &Device::Cpu,
            ),
        )?;
        assert_eq!((bn.weight().is_some(), bn.bias().is_some()), (part == "weight", part == "bias"));
        let y = ops::batch_norm2d(&x, None, bn.weight(), bn.bias(), config, true)?;
        let inputs = [("x", Some(&x)), (part, Some(&parameter))];
        check(&fixtures, &format!("batch_norm2d.{part}_alone"), &y, &inputs, &mut numbers)?;
    }
    Ok(())
}

#[test]
fn gelus() -> Result<()> {
    let fixtures = fixtures("operations")?;
    for (i, (name, form)) in [("none", Gelu::Erf), ("tanh", Gelu::Tanh)].into_iter().enumerate() {
        let mut numbers = Numbers::new(610 + i as u64);
        let x = Var::from_tensor(&(numbers.tensor(&[5, 41])? * 6.)?)?;
        check(&fixtures, &format!("gelu.{name}"), &form.forward(&x)?, &[("x", Some(&x))], &mut numbers)?;
    }
    Ok(())
}

#[test]
fn initial_values() -> Result<()> {
    let fixtures = fixtures("operations")?;
    let weight = Numbers::new(620).var(&[5, 3, 3, 3])?;
    init::dirac(&weight)?;
    assert_close("dirac", &weight, &fixtures["dirac"], 0.)?;
    let sizes = Tensor::new(&[1f32, 0.5, 0.2], &Device::Cpu)?.reshape((1, 3, 1, 1))?;
    let images = Numbers::new(621).tensor(&[20, 3, 8, 8])?.broadcast_mul(&sizes)?;
    assert_close("whitening", &init::whitening(&images, 2, 5e-4)?, &fixtures["whitening"], TOLERANCE)
}

/// A layer that begins as the identity, and keeps what it has been loaded with.
#[test]
fn a_dirac_convolution_passes_its_input_on() -> Result<()> {
    let parameters = Parameters::new(1);
    let config = Conv2dConfig { padding: 1, ..Default::default() };
    let conv = || conv2d_dirac(3, 5, 3, config, parameters.var_builder(&Device::Cpu).pp("conv"));
    let x = Numbers::new(2).tensor(&[2, 3, 6, 6])?;
    let y = conv()?.forward(&x)?;
    assert_close("the first channels", &y.narrow(1, 0, 3)?, &x, 1e-6)?;
    let plain = conv2d_no_bias(3, 5, 3, config, Parameters::new(1).var_builder(&Device::Cpu).pp("conv"))?;
    assert_close("the others", &y.narrow(1, 3, 2)?, &plain.forward(&x)?.narrow(1, 3, 2)?, 1e-6)?;
    let weight = parameters.get("conv.weight").expect("a weight");
    weight.set(&weight.zeros_like()?)?;
    assert_eq!(flat(&conv()?.forward(&x)?)?.iter().map(|v| v.abs()).sum::<f64>(), 0.);
    Ok(())
}

#[test]
fn pools() -> Result<()> {
    let fixtures = fixtures("operations")?;
    let cases = cases(&fixtures, "pool")?;
    assert_eq!(cases.len(), 9);
    for (i, case) in cases.into_iter().enumerate() {
        let [n, c, h, w, kernel, stride, ties] = case[..] else { panic!("{case:?}") };
        let mut numbers = Numbers::new(300 + i as u64);
        let x = numbers.tensor(&[n, c, h, w])?;
        // Rounded half to even, as torch.round does.
        let x = if ties == 1 { map(&x, |v| (v * 4.).round_ties_even() / 4.)? } else { x };
        let x = Var::from_tensor(&x)?;
        let y = ops::max_pool2d(&x, kernel, stride)?;
        check(&fixtures, &format!("pool.{i}.max"), &y, &[("x", Some(&x))], &mut numbers)?;
        let y = ops::avg_pool2d(&x, kernel, stride)?;
        check(&fixtures, &format!("pool.{i}.avg"), &y, &[("x", Some(&x))], &mut numbers)?;
    }
    Ok(())
}

fn map(x: &Tensor, f: impl Fn(f32) -> f32) -> Result<Tensor> {
    let values: Vec<f32> = x.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f).collect();
    Tensor::from_vec(values, x.shape(), x.device())
}

#[test]
fn max_pool_with_nan_and_infinities() -> Result<()> {
    let fixtures = fixtures("operations")?;
    let bits = |x: &Tensor| -> Result<Vec<Option<u32>>> {
        // Every NaN is as good as another.
        let values = x.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(values.into_iter().map(|v| (!v.is_nan()).then(|| v.to_bits())).collect())
    };
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        let fixture = |name: &str| fixtures[name].to_dtype(dtype);
        let x = Var::from_tensor(&fixture("pool.nan.x")?)?;
        let y = ops::max_pool2d(&x, 2, 2)?;
        assert_eq!(bits(&y)?, bits(&fixture("pool.nan.y")?)?, "{dtype:?}");
        // The output gradient's NaN-free: the output itself is not multiplied in.
        let factors = Tensor::new(&[1f32, 2., 3., 4.], &Device::Cpu)?.reshape((1, 1, 2, 2))?.to_dtype(dtype)?;
        let gradients = (y * factors)?.sum_all()?.backward()?;
        assert_eq!(bits(gradients.get(&x).unwrap())?, bits(&fixture("pool.nan.dx")?)?, "{dtype:?}");
    }
    Ok(())
}

#[test]
fn linears() -> Result<()> {
    let fixtures = fixtures("operations")?;
    let cases = cases(&fixtures, "linear")?;
    assert_eq!(cases.len(), 3);
    for (i, case) in cases.into_iter().enumerate() {
        let [n, inputs, outputs, bias] = case[..] else { panic!("{case:?}") };
        let mut numbers = Numbers::new(400 + i as u64);
        let (x, weight) = (numbers.var(&[n, inputs])?, numbers.var(&[outputs, inputs])?);
        let bias = (bias == 1).then(|| numbers.var(&[outputs])).transpose()?;
        let y = ops::linear(&x, &weight, bias.as_deref())?;
        let inputs = [("x", Some(&x)), ("weight", Some(&weight)), ("bias", bias.as_ref())];
        check(&fixtures, &format!("linear.{i}"), &y, &inputs, &mut numbers)?;
    }
    Ok(())
}

#[test]
fn cross_entropies_and_relu() -> Result<()> {
    let fixtures = fixtures("operations")?;
    let cases = cases(&fixtures, "cross_entropy")?;
    assert_eq!(cases.len(), 3);
    for (i, case) in cases.into_iter().enumerate() {
        let [n, c, tenths] = case[..] else { panic!("{case:?}") };
        let mut numbers = Numbers::new(500 + i as u64);
        let x = Var::from_tensor(&(numbers.tensor(&[n, c])? * 20.)?)?;
        let labels: Vec<i64> = (0..n).map(|i| (i * 7 % c) as i64).collect();
        let labels = Tensor::new(labels, &Device::Cpu)?;
        let y = ops::cross_entropy_with_label_smoothing(&x, &labels, tenths as f64 / 10.)?.reshape(1)?;
        check(&fixtures, &format!("cross_entropy.{i}"), &y, &[("x", Some(&x))], &mut numbers)?;
        let sum = CrossEntropyConfig { label_smoothing: tenths as f64 / 10., reduction: Reduction::Sum };
        let y = ops::cross_entropy_with(&x, &labels, sum)?.reshape(1)?;
        check(&fixtures, &format!("cross_entropy.{i}.sum"), &y, &[("x", Some(&x))], &mut numbers)?;
    }
    let x = Var::from_tensor(&map(&Numbers::new(600).tensor(&[3, 7])?, |v| (v * 2.).round_ties_even() / 2.)?)?;
    check(&fixtures, "relu", &ops::relu(&x)?, &[("x", Some(&x))], &mut Numbers::new(601))
}

#[test]
fn ten_steps_of_muon() -> Result<()> {
    let fixtures = fixtures("optimizers")?;
    let usual = MuonConfig::default();
    let plain = MuonConfig { learning_rate: 0.05, momentum: 0.8, nesterov: false, weight_decay: 0.1, ..usual };
    let scaling = MuonScaling::Weights;
    let weights = MuonConfig { learning_rate: 0.24, momentum: 0.6, steps: 3, scaling, ..usual };
    let sgd =
        SgdConfig { learning_rate: 0.1, momentum: 0.85, weight_decay: 1e-2, nesterov: true, ..Default::default() };
    for (name, config) in [("muon.default", usual), ("muon.plain", plain), ("muon.weights", weights)] {
        let make = |mut vars: Vec<Var>| {
            let bias = ParameterGroup { vars: vec![vars.pop().expect("a bias")], config: sgd };
            // Of two groups, whose settings are the same.
            let tall = ParameterGroup { vars: vars.drain(..1).collect(), config };
            Muon::with_sgd(vec![tall, ParameterGroup { vars, config }], vec![bias])
        };
        let shapes: [&[usize]; 4] = [&[7, 3], &[4, 9], &[6, 2, 3, 3], &[5]];
        let vars = ten_steps_of(&shapes, 720, make, |old, new| new.load_state(&old.state()?))?;
        for (i, var) in vars.iter().enumerate() {
            let key = format!("{name}.{i}");
            assert_close(&key, var, &fixtures[&key], TOLERANCE)?;
        }
    }
    Ok(())
}

/// Singular values between 10⁻³ and 1 come near 1, in f32 and f64, for tall and wide matrices.
#[test]
fn orthogonalized_matrices_have_singular_values_near_one() -> Result<()> {
    for (dtype, (rows, columns)) in [(DType::F32, (8, 20)), (DType::F64, (8, 20)), (DType::F32, (30, 8))] {
        let matrix = Numbers::new(9).tensor(&[rows, columns])?.to_dtype(dtype)?;
        let found = optim::orthogonalize(&matrix, 6)?.to_dtype(DType::F64)?;
        let of = |x: &Tensor| -> Result<(Vec<f64>, Tensor)> {
            let wide = if rows > columns { x.t()?.contiguous()? } else { x.clone() };
            let (values, vectors) = linalg::eigh(&wide.matmul(&wide.t()?.contiguous()?)?)?;
            Ok((values.to_vec1::<f64>()?.into_iter().map(|value| value.max(0.).sqrt()).collect(), vectors))
        };
        let (values, _) = of(&found)?;
        assert!(values.iter().all(|value| (0.6..1.3).contains(value)), "{values:?}");
        // The singular vectors are the same: MᵀM̂ is symmetric and positive.
        let wide = matrix.to_dtype(DType::F64)?;
        let product = found.t()?.contiguous()?.matmul(&wide)?;
        assert_close("symmetry", &product, &product.t()?.contiguous()?, 1e-5)?;
        let (values, _) = linalg::eigh(&product)?;
        assert!(values.to_vec1::<f64>()?[0] > -1e-5);
    }
    Ok(())
}

/// A store of given gradients, as a backward pass would have left it.
fn gradients(vars: &[Var], values: &[Option<Tensor>]) -> GradStore {
    let mut store = GradStore::default();
    for (var, value) in vars.iter().zip(values) {
        if let Some(value) = value {
            store.insert(var, value.clone());
        }
    }
    store
}

/// The parameters after ten steps of a matrix and a bias.
fn ten_steps<O: Optimizer>(
    make: impl Fn(Vec<Var>) -> Result<O>,
    hand_over: impl Fn(&O, &mut O) -> Result<()>,
) -> Result<Vec<Var>> {
    ten_steps_of(&[&[4, 3], &[5]], 700, make, hand_over)
}

/// The parameters after ten steps; halfway the state is saved and put into an optimizer made anew.
fn ten_steps_of<O: Optimizer>(
    shapes: &[&[usize]],
    seed: u64,
    make: impl Fn(Vec<Var>) -> Result<O>,
    hand_over: impl Fn(&O, &mut O) -> Result<()>,
) -> Result<Vec<Var>> {
    let mut numbers = Numbers::new(seed);
    let vars = shapes.iter().map(|shape| numbers.var(shape)).collect::<Result<Vec<_>>>()?;
    let mut optimizer = make(vars.clone())?;
    for step in 0..10 {
        if step == 5 {
            let mut again = make(vars.clone())?;
            hand_over(&optimizer, &mut again)?;
            optimizer = again;
        }
        let drawn = vars.iter().map(|var| numbers.tensor(var.dims())).collect::<Result<Vec<_>>>()?;
        let present = drawn.into_iter().enumerate().map(|(i, g)| (i != 1 || step % 3 != 0).then_some(g));
        optimizer.step(&gradients(&vars, &present.collect::<Vec<_>>()))?;
    }
    Ok(vars)
}

#[test]
fn ten_steps_of_each_optimizer() -> Result<()> {
    let fixtures = fixtures("optimizers")?;
    let none = SgdConfig::default();
    let sgd = [
        ("sgd.plain", SgdConfig { learning_rate: 0.1, ..none }),
        ("sgd.momentum", SgdConfig { learning_rate: 0.05, momentum: 0.9, weight_decay: 1e-2, ..none }),
        ("sgd.dampening", SgdConfig { learning_rate: 0.05, momentum: 0.8, dampening: 0.3, ..none }),
        ("sgd.nesterov", SgdConfig { learning_rate: 0.05, momentum: 0.9, weight_decay: 1e-3, nesterov: true, ..none }),
    ];
    let check = |name: &str, vars: &[Var]| -> Result<()> {
        for (i, var) in vars.iter().enumerate() {
            let key = format!("{name}.{i}");
            assert_close(&key, var, &fixtures[&key], 1e-6)?;
        }
        Ok(())
    };
    for (name, config) in sgd {
        let vars = ten_steps(|vars| SGD::new(vars, config), |old, new| new.load_state(&old.state()?))?;
        check(name, &vars)?;
    }
    let adamw = [
        ("adamw.default", AdamWConfig { learning_rate: 0.01, ..Default::default() }),
        ("adamw.other", AdamWConfig { learning_rate: 0.05, beta1: 0.8, beta2: 0.95, eps: 1e-6, weight_decay: 0.1 }),
    ];
    for (name, config) in adamw {
        let vars = ten_steps(|vars| AdamW::new(vars, config), |old, new| new.load_state(&old.state()?))?;
        check(name, &vars)?;
    }
    Ok(())
}

#[test]
fn schedules() -> Result<()> {
    let fixtures = fixtures("optimizers")?;
    let other = Schedule::OneCycle { maximum: 0.2, steps: 17, warm_up: 0.2, initial_divisor: 10., final_divisor: 100. };
    let schedules = [
        ("constant", Schedule::Constant { rate: 0.1 }),
        ("step", Schedule::Step { initial: 0.1, every: 3, gamma: 0.5 }),
        ("cosine", Schedule::Cosine { initial: 0.1, minimum: 0.001, steps: 10 }),
        ("one_cycle", Schedule::one_cycle(0.4, 20)?),
        ("one_cycle_other", other),
        ("one_cycle_short", Schedule::one_cycle(0.2, 2)?),
    ];
    for (name, schedule) in schedules {
        let wanted = flat(&fixtures[&format!("schedule.{name}")])?;
        let found: Vec<f64> = (0..wanted.len()).map(|step| schedule.learning_rate(step)).collect();
        assert_close_values(name, &found, &wanted, 1e-9);
    }
    Ok(())
}

/// The original notebook's network, layer by layer.
struct Net {
    blocks: Vec<(candle_cnn::layers::Conv2d, candle_cnn::layers::BatchNorm2d)>,
    dense: Vec<candle_cnn::layers::Linear>,
    fused: bool,
}

impl Net {
    fn new(parameters: &Parameters, fused: bool, device: &Device) -> Result<Self> {
        let vb = parameters.var_builder(device);
        let channels = [3, 32, 64, 128, 256];
        let same = Conv2dConfig { padding: 1, ..Default::default() };
        let block = |i: usize| {
            let conv = conv2d(channels[i], channels[i + 1], 3, same, vb.pp(format!("conv{}", i + 1)))?;
            Ok((conv, batch_norm2d(channels[i + 1], 1e-5, vb.pp(format!("bn{}", i + 1)))?))
        };
        let blocks = (0..4).map(block).collect::<Result<_>>()?;
        let sizes = [1024, 512, 128, 10];
        let dense = (0..3).map(|i| linear(sizes[i], sizes[i + 1], vb.pp(format!("fc{}", i + 1))));
        Ok(Self { blocks, dense: dense.collect::<Result<_>>()?, fused })
    }
}

impl ModuleT for Net {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let mut x = x.clone();
        for (conv, bn) in &self.blocks {
            x = if self.fused {
                ConvBlock::new(conv.clone(), bn.clone()).forward_t(&x, train)?
            } else {
                ops::max_pool2d(&ops::relu(&bn.forward_t(&conv.forward(&x)?, train)?)?, 2, 2)?
            };
        }
        x = ops::flatten(&x)?;
        for layer in &self.dense[..2] {
            x = ops::relu(&layer.forward(&x)?)?;
        }
        self.dense[2].forward(&x)
    }
}

#[test]
fn ten_training_steps_of_the_whole_network() -> Result<()> {
    ten_training_steps(false, &Device::Cpu, 1e-4)
}

#[test]
fn ten_training_steps_of_the_network_in_fused_blocks() -> Result<()> {
    ten_training_steps(true, &Device::Cpu, 1e-4)
}

#[cfg(feature = "cuda")]
#[test]
fn ten_training_steps_on_a_gpu() -> Result<()> {
    let Some(gpu) = support::gpu() else { return Ok(()) };
    [false, true].into_iter().try_for_each(|fused| ten_training_steps(fused, &gpu, 1e-3))
}

fn ten_training_steps(fused: bool, device: &Device, tolerance: f64) -> Result<()> {
    let (fixtures, parameters) = (fixtures("training")?, Parameters::new(0));
    let net = Net::new(&parameters, fused, device)?;
    let mut numbers = Numbers::new(811);
    let named: HashMap<String, Var> = parameters.named().into_iter().collect();
    for (name, var) in parameters.named() {
        if name.starts_with("bn") {
            continue;
        }
        let weight = &named[&name.replace("bias", "weight")];
        let fan_in = weight.elem_count() / weight.dims()[0];
        let scale = -((fan_in as f64).log2() / 2.).round_ties_even();
        var.set(&(numbers.tensor(var.dims())? * scale.exp2())?.to_device(device)?)?;
    }
    let config = SgdConfig { learning_rate: 0.01, momentum: 0.9, weight_decay: 1e-3, ..Default::default() };
    let mut sgd = SGD::new(parameters.trainable(), config)?;
    let batch = 4;
    let mut losses = Vec::new();
    for step in 0..10 {
        let x = numbers.tensor(&[batch, 3, 32, 32])?.to_device(device)?;
        let labels: Vec<u32> = (0..batch).map(|i| ((i * 3 + step) % 10) as u32).collect();
        let loss = ops::cross_entropy(&net.forward_t(&x, true)?, &Tensor::new(labels, device)?)?;
        sgd.backward_step(&loss)?;
        losses.push(f64::from(loss.to_scalar::<f32>()?));
    }
    assert_close_values("losses", &losses, &flat(&fixtures["losses"])?, tolerance);
    let mut seen = 0;
    for (name, var) in parameters.named() {
        let mut values = flat(&var)?;
        if let Some(sum) = fixtures.get(&format!("{name}.sum")) {
            // A sum of values of both signs is measured by their norm.
            let wanted = flat(sum)?;
            let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt();
            assert!((values.iter().sum::<f64>() - wanted[0]).abs() <= tolerance * wanted[1], "{name}: sum");
            assert!((norm - wanted[1]).abs() <= tolerance * wanted[1], "{name}: norm");
            values = values.iter().copied().step_by(values.len() / 256 + 1).collect();
        }
        assert_close_values(&name, &values, &flat(&fixtures[&name])?, tolerance);
        seen += 1;
    }
    assert_eq!(seen, 34); // 4 × (2 + 5) + 3 × 2
    let eval = net.forward_t(&numbers.tensor(&[4, 3, 32, 32])?.to_device(device)?, false)?;
    assert_close("eval", &eval, &fixtures["eval"], 1e-3)
}
