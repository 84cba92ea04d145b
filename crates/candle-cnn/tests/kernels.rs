//! The CUDA kernels, compiled as plain C++ and run on the CPU (`kernels/on_cpu.cpp`), against this crate's own
//! operations. The launches are those of a GPU. Needs a C++ compiler and a Unix; skipped elsewhere.
#![cfg(unix)]

#[path = "../src/cuda/launch.rs"]
mod launch;
mod support;

use candle_cnn::layers::Gelu;
use candle_cnn::ops::{
    self, BatchNormConfig, Conv2dConfig, CrossEntropyConfig, Placement, Reduction, RunningStatistics,
};
use candle_cnn::optim::{AdamW, AdamWConfig, ParameterGroup, SGD, SgdConfig};
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Module, Optimizer};
use launch::{Argument, Block, Channels, Columns, Labels, Launch, Normalizer, Pooling, Running};
use proptest::prelude::*;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use support::{Numbers, assert_close_values};

type Run = unsafe extern "C" fn(*const c_char, u32, u32, *mut *mut c_void, bool) -> *const c_char;

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// The kernels as a library, compiled once; `None` where there is no compiler.
fn compiled() -> Option<Run> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kernels-{}.so", std::process::id()));
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let output = Command::new(&compiler)
        // Rounding as it is written: neither the CPU's nor the GPU's fused operations are to be the other's reference.
        .args(["-std=c++17", "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-Wall", "-Werror", "-x", "c++"])
        .arg(root.join("tests/kernels/on_cpu.cpp"))
        .arg("-o")
        .arg(&library)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            eprintln!("skipped: no C++ compiler ({compiler}: {error})");
            return None;
        }
    };
    assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
    let path = CString::new(library.to_str().expect("a path in UTF-8")).expect("no zero byte");
    const NOW: c_int = 2;
    // SAFETY: the library was compiled above, and `run_kernel` has this signature there.
    let run = unsafe {
        let library = dlopen(path.as_ptr(), NOW);
        assert!(!library.is_null(), "the library can't be loaded");
        let run = dlsym(library, c"run_kernel".as_ptr());
        assert!(!run.is_null(), "the library has no run_kernel");
        std::mem::transmute::<*mut c_void, Run>(run)
    };
    std::fs::remove_file(&library).expect("the library is there");
    Some(run)
}

/// Where an argument lies.
fn pointer(argument: &Argument) -> *mut c_void {
    let pointer: *const c_void = match argument {
        Argument::Address(value) => std::ptr::from_ref(value).cast(),
        Argument::Integer(value) => std::ptr::from_ref(value).cast(),
        Argument::Float(value) => std::ptr::from_ref(value).cast(),
        Argument::Double(value) => std::ptr::from_ref(value).cast(),
        Argument::Sizes(values) => values.as_ptr().cast(),
        Argument::Table(table) => std::ptr::from_ref(&**table).cast(),
    };
    pointer.cast_mut()
}

/// Runs a launch as a GPU would; it has one block's memory, so one thread at a time.
struct Gpu {
    run: &'static Mutex<Run>,
    backwards: bool,
}

impl Gpu {
    fn new(backwards: bool) -> Option<Self> {
        static COMPILED: OnceLock<Option<Mutex<Run>>> = OnceLock::new();
        let run = COMPILED.get_or_init(|| compiled().map(Mutex::new)).as_ref()?;
        Some(Self { run, backwards })
    }

    fn run(&self, launch: Launch) {
        let name = CString::new(launch.kernel).expect("no zero byte");
        let mut pointers: Vec<*mut c_void> = launch.arguments.iter().map(pointer).collect();
        let run = self.run.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // SAFETY: the arguments are the kernel's, and the addresses in them those of memory that outlives the call.
        let error =
            unsafe { (*run)(name.as_ptr(), launch.blocks, launch.threads, pointers.as_mut_ptr(), self.backwards) };
        if !error.is_null() {
            // SAFETY: a string literal of the library.
            panic!("{}: {}", launch.kernel, unsafe { CStr::from_ptr(error) }.to_string_lossy());
        }
    }
}

/// What stands for device memory. Behind its values lie more, which no kernel may touch.
struct Memory<T>(Vec<T>);

const BEHIND: usize = 16;

impl<T: Copy + PartialEq + Mark> Memory<T> {
    fn new(mut values: Vec<T>) -> Self {
        values.extend([T::MARK; BEHIND]);
        Self(values)
    }

    /// Not written yet.
    fn empty(count: usize) -> Self {
        Self::new(vec![T::MARK; count])
    }

    fn at(&mut self) -> u64 {
        self.0.as_mut_ptr().expose_provenance() as u64
    }

    fn values(&self) -> &[T] {
        let (values, behind) = self.0.split_at(self.0.len() - BEHIND);
        assert!(behind.iter().all(|&value| value == T::MARK), "a kernel wrote behind the end");
        values
    }
}

trait Mark {
    const MARK: Self;
}

macro_rules! mark {
    ($($t:ty: $mark:expr),*) => { $(impl Mark for $t { const MARK: Self = $mark; })* };
}
mark!(f32: -7e30, f64: -7e30, i32: i32::MIN + 1, i64: i64::MIN + 1, u8: 0xa5, u32: 0xa5a5_a5a5);

impl Memory<f32> {
    fn of(x: &Tensor) -> Result<Self> {
        Ok(Self::new(x.flatten_all()?.to_vec1()?))
    }

    fn tensor(&self, shape: &[usize]) -> Result<Tensor> {
        Tensor::from_vec(self.values().to_vec(), shape, &Device::Cpu)
    }

    #[track_caller]
    fn assert_close(&self, what: &str, wanted: &Tensor, tolerance: f64) -> Result<()> {
        let found: Vec<f64> = self.values().iter().map(|&v| v.into()).collect();
        assert_close_values(what, &found, &support::flat(wanted)?, tolerance);
        Ok(())
    }

    /// The very bits, but one NaN for another.
    #[track_caller]
    fn assert_equal(&self, what: &str, wanted: &Tensor) -> Result<()> {
        let wanted: Vec<f32> = wanted.flatten_all()?.to_vec1()?;
        let same = |(a, b): (&f32, &f32)| a == b || (a.is_nan() && b.is_nan());
        assert!(self.values().len() == wanted.len() && self.values().iter().zip(&wanted).all(same), "{what}");
        Ok(())
    }
}

/// Numbers from a coarse grid, so that equal ones are frequent and different ones far apart.
fn coarse(numbers: &mut Numbers, shape: &[usize]) -> Result<Tensor> {
    numbers.tensor(shape)?.affine(8.0, 0.0)?.round()?.affine(0.25, 0.0)
}

/// x with some NaN.
fn with_nan(x: &Tensor) -> Result<Tensor> {
    let values: Vec<f32> = x.flatten_all()?.to_vec1()?;
    let values = values.iter().enumerate().map(|(i, &v)| if i % 11 == 5 { f32::NAN } else { v }).collect();
    Tensor::from_vec(values, x.dims(), &Device::Cpu)
}

/// An operation's value, and its inputs' gradients for an output's gradient drawn at random (also returned).
fn reference(inputs: &[&Var], seed: u64, f: impl FnOnce() -> Result<Tensor>) -> Result<(Tensor, Tensor, Vec<Tensor>)> {
    let y = f()?;
    let dy = Numbers::new(seed).tensor(y.dims())?;
    let store = (&y * &dy)?.sum_all()?.backward()?;
    let gradients = inputs.iter().map(|&input| store.get(input).expect("a gradient").clone()).collect();
    Ok((y, dy, gradients))
}

fn check(result: Result<()>) {
    if let Err(error) = result {
        panic!("{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn relu(count in 1usize..2000, few_blocks: bool, seed: u64) {
        check(relu_case(count, few_blocks, seed));
    }

    #[test]
    fn gelu(count in 1usize..2000, by_tanh: bool, seed: u64) {
        check(gelu_case(count, by_tanh, seed));
    }

    #[test]
    fn pools(
        (n, c) in (1usize..4, 1usize..4),
        kernel in (1usize..5, 1usize..5),
        stride in (1usize..4, 1usize..4),
        rest in (0usize..9, 0usize..9),
        seed: u64,
    ) {
        check(pool_case([n, c, kernel.0 + rest.0, kernel.1 + rest.1], kernel, stride, seed));
    }

    #[test]
    fn batch_norm(n in 1usize..7, c in 1usize..6, side in (1usize..9, 1usize..9), affine: bool, seed: u64) {
        let n = if n * side.0 * side.1 == 1 { 2 } else { n };
        check(batch_norm_case([n, c, side.0, side.1], affine, seed));
    }

    #[test]
    fn blocks(n in 1usize..6, c in 1usize..5, side in (2usize..9, 2usize..9), affine: bool, seed: u64) {
        check(block_case([n, c, side.0, side.1], affine, seed));
    }

    #[test]
    fn convolution(
        (n, c, o) in (1usize..4, 1usize..4, 1usize..5),
        kernel in (1usize..4, 1usize..4),
        (stride, dilation, padding) in (1usize..3, 1usize..3, 0usize..3),
        rest in (0usize..6, 0usize..6),
        seed: u64,
    ) {
        let side = |kernel: usize, rest: usize| dilation * (kernel - 1) + 1 + rest;
        let sizes = [n, c, side(kernel.0, rest.0), side(kernel.1, rest.1)];
        let config = Conv2dConfig { padding, stride, dilation, groups: 1 };
        check(convolution_case(sizes, o, kernel, config, seed));
    }

    #[test]
    fn cross_entropy(n in 1usize..40, c in 1usize..300, smoothing in prop_oneof![Just(0.0), 0.0..1.0f64], seed: u64) {
        check(cross_entropy_case(n, c, smoothing, seed));
    }

    #[test]
    fn gathers(stored in 1usize..6, batch in 1usize..9, c in 1usize..4, side in (1usize..9, 1usize..9), seed: u64) {
        check(gather_case(stored, batch, [c, side.0, side.1], seed));
    }

    #[test]
    fn counts(n in 1usize..700, c in 1usize..30, seed: u64) {
        check(count_case(n, c, seed));
    }

    #[test]
    fn optimizers(
        lengths in prop::collection::vec(prop_oneof![9 => 1usize..50, 1 => 1000usize..3000], 1..60),
        settings in (0.0..0.5f64, 0.0..0.1f64, prop_oneof![Just(0.0), 0.1..0.95f64], 0.0..0.5f64),
        nesterov: bool,
        stored: bool,
        seed: u64,
    ) {
        check(optimizer_case(&lengths, settings, nesterov, stored, seed));
    }
}

fn relu_case(count: usize, few_blocks: bool, seed: u64) -> Result<()> {
    let Some(gpu) = Gpu::new(seed.is_multiple_of(2)) else { return Ok(()) };
    let x = Var::from_tensor(&with_nan(&coarse(&mut Numbers::new(seed), &[count])?)?)?;
    let y = ops::relu(&x)?;
    // NaN times 0 is NaN, so the gradient comes in by itself and not through a product.
    let dy = Numbers::new(seed ^ 1).tensor(&[count])?;
    let wanted = x.as_detached_tensor().le(&x.zeros_like()?)?.where_cond(&dy.zeros_like()?, &dy)?;
    let (mut memory, mut found, mut grad) = (Memory::of(&x)?, Memory::<f32>::empty(count), Memory::of(&dy)?);
    let mut dx = Memory::<f32>::empty(count);
    let mut forward = launch::relu_forward(memory.at(), found.at(), count);
    if few_blocks {
        // Threads with several values each, as in a tensor larger than the grid.
        forward.blocks = 1;
    }
    gpu.run(forward);
    found.assert_equal("relu", &y)?;
    gpu.run(launch::relu_backward(memory.at(), grad.at(), dx.at(), count));
    dx.assert_equal("relu's gradient", &wanted)
}

fn gelu_case(count: usize, by_tanh: bool, seed: u64) -> Result<()> {
    let Some(gpu) = Gpu::new(seed.is_multiple_of(2)) else { return Ok(()) };
    let x = Var::from_tensor(&(Numbers::new(seed).tensor(&[count])? * 6.0)?)?;
    let form = if by_tanh { Gelu::Tanh } else { Gelu::Erf };
    let (y, dy, dx) = reference(&[&x], seed ^ 1, || form.forward(&x))?;
    let (mut memory, mut found, mut grad) = (Memory::of(&x)?, Memory::<f32>::empty(count), Memory::of(&dy)?);
    let mut back = Memory::<f32>::empty(count);
    gpu.run(launch::gelu_forward(memory.at(), found.at(), count, by_tanh));
    assert_gradient("gelu", &found, &y)?;
    gpu.run(launch::gelu_backward(memory.at(), grad.at(), back.at(), count, by_tanh));
    gpu.run(launch::scale(memory.at(), found.at(), count, 0.3));
    found.assert_equal("scale", &ops::scale(&x, 0.3)?)?;
    assert_gradient("gelu's gradient", &back, &dx[0])
}

fn pool_case(dims: [usize; 4], kernel: (usize, usize), stride: (usize, usize), seed: u64) -> Result<()> {
    let Some(gpu) = Gpu::new(seed.is_multiple_of(2)) else { return Ok(()) };
    let [n, c, h, w] = dims;
    let x = Var::from_tensor(&coarse(&mut Numbers::new(seed), &dims)?)?;
    let (y, dy, dx) = reference(&[&x], seed ^ 1, || ops::max_pool2d(&x, kernel, stride))?;
    let (_, _, oh, ow) = y.dims4()?;
    let pooling = Pooling { planes: n * c, input: (h, w), kernel, stride, output: (oh, ow) };
    let (mut input, mut found) = (Memory::of(&x)?, Memory::<f32>::empty(y.elem_count()));
    let (mut winners, mut grad) = (Memory::<i32>::empty(y.elem_count()), Memory::of(&dy)?);
    let mut back = Memory::<f32>::empty(x.elem_count());
    gpu.run(pooling.max_forward(input.at(), found.at(), winners.at()));
    found.assert_equal("max-pool", &y)?;
    gpu.run(pooling.max_backward(grad.at(), winners.at(), back.at()));
    winners.values();
    back.assert_equal("max-pool's gradient", &dx[0])?;

    let (y, dy, dx) = reference(&[&x], seed ^ 2, || ops::avg_pool2d(&x, kernel, stride))?;
    let mut grad = Memory::of(&dy)?;
    gpu.run(pooling.avg_forward(input.at(), found.at()));
    found.assert_equal("avg-pool", &y)?;
    gpu.run(pooling.avg_backward(grad.at(), back.at()));
    back.assert_equal("avg-pool's gradient", &dx[0])?;

    // NaN wins, and nothing is noted where nobody asks.
    let x = with_nan(&x.as_detached_tensor())?;
    let mut input = Memory::of(&x)?;
    gpu.run(pooling.max_forward(input.at(), found.at(), 0));
    found.assert_equal("max-pool of NaN", &ops::max_pool2d(&x, kernel, stride)?)
}

/// A batch norm's vectors, drawn at random.
struct Vectors {
    gamma: Var,
    beta: Var,
    running: RunningStatistics,
}

impl Vectors {
    fn new(numbers: &mut Numbers, c: usize) -> Result<Self> {
        let running = RunningStatistics::new(c, DType::F32, &Device::Cpu)?;
        running.mean.set(&numbers.tensor(&[c])?.affine(0.1, 1.0)?)?;
        running.var.set(&numbers.tensor(&[c])?.affine(0.5, 1.5)?)?;
        Ok(Self { gamma: numbers.var(&[c])?, beta: numbers.var(&[c])?, running })
    }

    fn weights(&self, affine: bool) -> (Option<&Tensor>, Option<&Tensor>) {
        if affine { (Some(self.gamma.as_tensor()), Some(self.beta.as_tensor())) } else { (None, None) }
    }
}

const TOLERANCE: f64 = 2e-5;

fn batch_norm_case(dims: [usize; 4], affine: bool, seed: u64) -> Result<()> {
    let Some(gpu) = Gpu::new(seed.is_multiple_of(2)) else { return Ok(()) };
    let [n, c, h, w] = dims;
    let mut numbers = Numbers::new(seed);
    // Far from 0, where the variance is the small difference of large squares.
    let x = Var::from_tensor(&numbers.tensor(&dims)?.affine(1.0, (seed % 3) as f64 * 20.0)?)?;
    let vectors = Vectors::new(&mut numbers, c)?;
    let (g, b) = vectors.weights(affine);
    let mut channels = Channels::new(n, c, h * w);
    channels.runs = 1 + seed as usize % n;
    let config = BatchNormConfig { momentum: 0.3, ..Default::default() };
    let mut wanted = vec![&x];
    wanted.extend(affine.then_some([&vectors.gamma, &vectors.beta]).into_iter().flatten());

    let (mut gamma, mut beta) = (Memory::of(&vectors.gamma)?, Memory::of(&vectors.beta)?);
    let (mut mean, mut inverse) = (Memory::<f32>::empty(c), Memory::<f32>::empty(c));
    let mut at = |affine: bool| if affine { (gamma.at(), beta.at()) } else { (0, 0) };
    let (gamma_at, beta_at) = at(affine);
    let mut input = Memory::of(&x)?;
    let mut sums = Memory::<f64>::empty(channels.sums());
    let (mut found, mut back) = (Memory::<f32>::empty(x.elem_count()), Memory::<f32>::empty(x.elem_count()));
    let (mut dgamma, mut dbeta) = (Memory::<f32>::empty(c), Memory::<f32>::empty(c));
    let bias = numbers.tensor(&[c])?;
    for train in [true, false] {
        let (mut running_mean, mut running_var) =
            (Memory::of(&vectors.running.mean)?, Memory::of(&vectors.running.var)?);
        let mut batches = Memory::new(vec![0i64]);
        let (y, dy, gradients) =
            reference(&wanted, seed ^ 1, || ops::batch_norm2d(&x, Some(&vectors.running), g, b, config, train))?;
        let normalizer = Normalizer {
            mean: if train { mean.at() } else { running_mean.at() },
            inverse: inverse.at(),
            gamma: gamma_at,
            beta: beta_at,
        };
        if train {
            // What is normalized may lack a bias that the running mean knows of.
            let mut lacking = Memory::of(&bias)?;
            let running = Running {
                mean: running_mean.at(),
                var: running_var.at(),
                batches: batches.at(),
                bias: if seed % 5 < 2 { lacking.at() } else { 0 },
            };
            gpu.run(channels.moments(input.at(), sums.at()));
            gpu.run(channels.statistics(input.at(), sums.at(), &normalizer, running, (config.eps, config.momentum)));
            let shift = if running.bias == 0 { bias.zeros_like()? } else { bias.affine(config.momentum, 0.0)? };
            running_mean.assert_close(
                "running mean",
                &(vectors.running.mean.as_detached_tensor() + shift)?,
                TOLERANCE,
            )?;
            running_var.assert_close("running variance", vectors.running.var.as_tensor(), TOLERANCE)?;
            assert_eq!(batches.values(), [1]);
        } else {
            gpu.run(channels.inverse(running_var.at(), inverse.at(), config.eps));
        }
        gpu.run(channels.normalize(input.at(), &normalizer, found.at()));
        found.assert_close("batch norm", &y, TOLERANCE)?;
        let mut grad = Memory::of(&dy)?;
        gpu.run(channels.gradient_sums(grad.at(), input.at(), normalizer.mean, sums.at()));
        gpu.run(channels.gradients(sums.at(), inverse.at(), dgamma.at(), dbeta.at()));
        let places = (grad.at(), input.at(), back.at());
        gpu.run(channels.backward(places, &normalizer, (dgamma.at(), dbeta.at()), train));
        // Differences of rounding count against the gradient that comes in: in training what goes out may be near 0.
        assert_gradient("batch norm's gradient", &back, &gradients[0])?;
        if affine {
            assert_gradient("the scale's gradient", &dgamma, &gradients[1])?;
            assert_gradient("the shift's gradient", &dbeta, &gradients[2])?;
        }
    }
    Ok(())
}

/// Within the tolerance of the largest value, or of 1 where all are smaller.
#[track_caller]
fn assert_gradient(what: &str, found: &Memory<f32>, wanted: &Tensor) -> Result<()> {
    let wanted: Vec<f32> = wanted.flatten_all()?.to_vec1()?;
    let size = wanted.iter().fold(1f32, |size, v| size.max(v.abs()));
    for (found, wanted) in found.values().iter().zip(&wanted) {
        assert!((found - wanted).abs() <= 5.0 * TOLERANCE as f32 * size, "{what}: {found}, wanted {wanted}");
    }
    Ok(())
}

fn block_case(dims: [usize; 4], affine: bool, seed: u64) -> Result<()> {
    let Some(gpu) = Gpu::new(seed.is_multiple_of(2)) else { return Ok(()) };
    let [n, c, rows, columns] = dims;
    let mut numbers = Numbers::new(seed);
    let y = Var::from_tensor(&coarse(&mut numbers, &dims)?)?;
    let vectors = Vectors::new(&mut numbers, c)?;
    let (g, b) = vectors.weights(affine);
    let mut wanted = vec![&y];
    wanted.extend(affine.then_some([&vectors.gamma, &vectors.beta]).into_iter().flatten());
    let config = BatchNormConfig::default();
    let normalized = ops::batch_norm2d(&y.as_detached_tensor(), None, g, b, config, true)?;
    // Where rounding decides on which side of ReLU a value lies, the gradients may differ.
    if normalized.abs()?.flatten_all()?.min(0)?.to_scalar::<f32>()? < 1e-5 {
        return Ok(());
    }
    let (pooled, dy, gradients) = reference(&wanted, seed ^ 1, || {
        let y = ops::batch_norm2d(&y, None, g, b, config, true)?;
        ops::max_pool2d(&ops::relu(&y)?, 2, 2)
    })?;

    let block = Block { n, c, rows, columns };
    let channels = Channels::new(n, c, rows * columns);
    let (mut gamma, mut beta) = (Memory::of(&vectors.gamma)?, Memory::of(&vectors.beta)?);
    let (mut mean, mut inverse) = (Memory::<f32>::empty(c), Memory::<f32>::empty(c));
    let normalizer = Normalizer {
        mean: mean.at(),
        inverse: inverse.at(),
        gamma: if affine { gamma.at() } else { 0 },
        beta: if affine { beta.at() } else { 0 },
    };
    let (mut input, mut sums) = (Memory::of(&y)?, Memory::<f64>::empty(channels.sums()));
    gpu.run(channels.moments(input.at(), sums.at()));
    gpu.run(channels.statistics(input.at(), sums.at(), &normalizer, Running::default(), (config.eps, 0.1)));
    let (mut found, mut winners) =
        (Memory::<f32>::empty(pooled.elem_count()), Memory::<u8>::empty(pooled.elem_count()));
    gpu.run(block.forward(input.at(), &normalizer, found.at(), winners.at()));
    found.assert_close("block", &pooled, TOLERANCE)?;
    gpu.run(block.forward(input.at(), &normalizer, found.at(), 0));
    found.assert_close("block without winners", &pooled, TOLERANCE)?;

    let mut grad = Memory::of(&dy)?;
    let mut sums = Memory::<f64>::empty(block.channels().sums());
    let (mut dgamma, mut dbeta) = (Memory::<f32>::empty(c), Memory::<f32>::empty(c));
    let mut back = Memory::<f32>::empty(y.elem_count());
    gpu.run(block.gradient_sums(grad.at(), winners.at(), input.at(), mean.at(), sums.at()));
    gpu.run(block.channels().gradients(sums.at(), inverse.at(), dgamma.at(), dbeta.at()));
    let vectors = (dgamma.at(), dbeta.at());
    gpu.run(block.backward((grad.at(), winners.at()), input.at(), &normalizer, vectors, back.at()));
    winners.values();
    assert_gradient("block's gradient", &back, &gradients[0])?;
    if affine {
        assert_gradient("the scale's gradient", &dgamma, &gradients[1])?;
        assert_gradient("the shift's gradient", &dbeta, &gradients[2])?;
    }
    Ok(())
}

fn convolution_case(dims: [usize; 4], o: usize, kernel: (usize, usize), config: Conv2dConfig, seed: u64) -> Result<()> {
    let Some(gpu) = Gpu::new(seed.is_multiple_of(2)) else { return Ok(()) };
    let [n, c, h, w] = dims;
    let mut numbers = Numbers::new(seed);
    let (x, weight, bias) = (numbers.var(&dims)?, numbers.var(&[o, c, kernel.0, kernel.1])?, numbers.var(&[o])?);
    let inputs = [&x, &weight, &bias];
    let (y, dy, gradients) = reference(&inputs, seed ^ 1, || ops::conv2d(&x, &weight, Some(&bias), config))?;
    let (_, _, oh, ow) = y.dims4()?;
    let Conv2dConfig { padding, stride, dilation, .. } = config;
    let columns = Columns { n, c, input: (h, w), kernel, output: (oh, ow), stride, dilation, padding };
    let (taps, width, plane) = (columns.taps(), columns.width(), oh * ow);
    // The products between the kernels are cuBLAS's.
    let matrix = weight.as_detached_tensor().reshape((o, taps))?;

    let (mut input, mut spread) = (Memory::of(&x)?, Memory::<f32>::empty(taps * width));
    gpu.run(columns.im2col(input.at(), spread.at()));
    let spread = spread.tensor(&[taps, width])?;
    let (mut product, mut biases) = (Memory::of(&matrix.matmul(&spread)?)?, Memory::of(&bias)?);
    let mut found = Memory::<f32>::empty(y.elem_count());
    gpu.run(launch::from_matrix(product.at(), biases.at(), found.at(), [n, o, plane]));
    found.assert_close("convolution", &y, TOLERANCE)?;
    // The same in two steps, as after cuDNN.
    gpu.run(launch::from_matrix(product.at(), 0, found.at(), [n, o, plane]));
    gpu.run(launch::add_bias(found.at(), biases.at(), [n, o, plane]));
    found.assert_close("convolution and bias", &y, TOLERANCE)?;

    let (mut grad, mut grad_matrix) = (Memory::of(&dy)?, Memory::<f32>::empty(dy.elem_count()));
    gpu.run(launch::to_matrix(grad.at(), grad_matrix.at(), [n, o, plane]));
    let grad_matrix = grad_matrix.tensor(&[o, width])?;
    let mut dw = Memory::of(&grad_matrix.matmul(&spread.t()?)?)?;
    dw.at();
    dw.assert_close("the weight's gradient", &gradients[1], TOLERANCE)?;
    let mut dspread = Memory::of(&matrix.t()?.matmul(&grad_matrix)?)?;
    let mut dx = Memory::<f32>::empty(x.elem_count());
    gpu.run(columns.col2im(dspread.at(), dx.at()));
    dx.assert_close("the input's gradient", &gradients[0], TOLERANCE)?;

    let channels = Channels::new(n, o, plane);
    let (mut sums, mut db) = (Memory::<f64>::empty(channels.sums()), Memory::<f32>::empty(o));
    gpu.run(channels.gradient_sums(grad.at(), 0, 0, sums.at()));
    gpu.run(channels.gradients(sums.at(), 0, 0, db.at()));
    assert_gradient("the bias's gradient", &db, &gradients[2])
}

fn cross_entropy_case(n: usize, c: usize, smoothing: f64, seed: u64) -> Result<()> {
    let Some(gpu) = Gpu::new(seed.is_multiple_of(2)) else { return Ok(()) };
    let mut numbers = Numbers::new(seed);
    // Large logits would overflow a softmax that does not take the maximum off.
    let logits = Var::from_tensor(&numbers.tensor(&[n, c])?.affine(1.0 + (seed % 4) as f64 * 500.0, 0.0)?)?;
    let labels: Vec<u32> = (0..n).map(|_| (((numbers.one() + 1.0) / 2.0) * c.min(256) as f64) as u32).collect();
    let labels: Vec<u32> = labels.into_iter().map(|label| label.min(c as u32 - 1)).collect();
    let tensor = Tensor::new(labels.as_slice(), &Device::Cpu)?;
    let (reduction, share) =
        if seed.is_multiple_of(3) { (Reduction::Sum, 1.0) } else { (Reduction::Mean, 1.0 / n as f64) };
    let config = CrossEntropyConfig { label_smoothing: smoothing, reduction };
    let loss = ops::cross_entropy_with(&logits, &tensor, config)?;
    let store = (&loss * 3.0)?.backward()?;
    let wanted = store.get(&logits).expect("a gradient");

    let mut input = Memory::of(&logits)?;
    let mut as_u8 = Memory::new(labels.iter().map(|&label| label as u8).collect());
    let mut as_i64 = Memory::new(labels.iter().map(|&label| i64::from(label)).collect());
    let mut as_u32 = Memory::new(labels.clone());
    for labels in [(as_u8.at(), Labels::U8), (as_u32.at(), Labels::U32), (as_i64.at(), Labels::I64)] {
        let (mut gradient, mut losses) = (Memory::<f32>::empty(n * c), Memory::<f64>::empty(n));
        let (mut mean, mut scaled) = (Memory::<f32>::empty(1), Memory::<f32>::empty(n * c));
        gpu.run(launch::cross_entropy_rows(input.at(), labels, gradient.at(), losses.at(), [n, c], (smoothing, share)));
        gpu.run(launch::cross_entropy_total(losses.at(), mean.at(), n, share));
        gpu.run(launch::scale_by(gradient.at(), Memory::new(vec![3f32]).at(), scaled.at(), n * c));
        losses.values();
        assert_gradient("loss", &mean, &loss)?;
        scaled.assert_close("the logits' gradient", wanted, TOLERANCE)?;
    }

    // A label that is no class.
    for label in [-1, c as i64] {
        let mut labels: Vec<i64> = labels.iter().map(|&label| i64::from(label)).collect();
        labels[n / 2] = label;
        let (mut labels, mut mean) = (Memory::new(labels), Memory::<f32>::empty(1));
        let (mut gradient, mut losses) = (Memory::<f32>::empty(n * c), Memory::<f64>::empty(n));
        let labels = (labels.at(), Labels::I64);
        gpu.run(launch::cross_entropy_rows(input.at(), labels, gradient.at(), losses.at(), [n, c], (smoothing, share)));
        gpu.run(launch::cross_entropy_total(losses.at(), mean.at(), n, share));
        assert!(mean.values()[0].is_nan() && gradient.values()[n / 2 * c].is_nan());
    }
    Ok(())
}

fn gather_case(stored: usize, batch: usize, [c, h, w]: [usize; 3], seed: u64) -> Result<()> {
    let Some(gpu) = Gpu::new(seed.is_multiple_of(2)) else { return Ok(()) };
    let mut numbers = Numbers::new(seed);
    let mut below = |end: usize| ((numbers.one() + 1.0) / 2.0 * end as f64) as usize;
    let bytes: Vec<u8> = (0..stored * c * h * w).map(|_| below(256) as u8).collect();
    let table: Vec<f32> = (0..c * 256).map(|i| i as f32 / 7.0 - 3.0).collect();
    // Moves that leave all, a part and nothing of the picture.
    let mut by = |side: usize| below(4 * side + 1) as i32 - 2 * side as i32;
    let moves: Vec<(i32, i32)> = (0..batch).map(|_| (by(h), by(w))).collect();
    let placements: Vec<Placement> = moves
        .into_iter()
        .map(|(down, right)| Placement {
            index: below(stored),
            mirrored: below(2) == 1,
            reflected: below(2) == 1,
            down,
            right,
        })
        .collect();
    let tensors = (
        Tensor::from_vec(bytes.clone(), (stored, c, h, w), &Device::Cpu)?,
        Placement::tensor(&placements, &Device::Cpu)?,
        Tensor::from_vec(table.clone(), (c, 256), &Device::Cpu)?,
    );
    let wanted = ops::gather_images(&tensors.0, &tensors.1, &tensors.2)?;
    let (mut bytes, mut table) = (Memory::new(bytes), Memory::new(table));
    let mut places: Vec<i64> = tensors.1.flatten_all()?.to_vec1()?;
    let mut run = |places: Vec<i64>| {
        let (mut places, mut y) = (Memory::new(places), Memory::<f32>::empty(batch * c * h * w));
        gpu.run(launch::gather_images([bytes.at(), places.at(), table.at()], y.at(), batch, [stored, c, h, w]));
        y
    };
    run(places.clone()).assert_equal("a batch", &wanted)?;
    // Pictures that are not there are read from nowhere.
    for index in [-1, stored as i64] {
        places[0] = index;
        assert!(run(places.clone()).values()[..c * h * w].iter().all(|value| value.is_nan()));
    }
    Ok(())
}

fn count_case(n: usize, c: usize, seed: u64) -> Result<()> {
    let Some(gpu) = Gpu::new(seed.is_multiple_of(2)) else { return Ok(()) };
    let mut numbers = Numbers::new(seed);
    // Rows with a number that is none, and between them as many without.
    let odd = [f32::NAN, 0.0, f32::INFINITY, 0.0, f32::NEG_INFINITY, 0.0];
    let mut rows = coarse(&mut numbers, &[n, c])?.to_vec2::<f32>()?;
    for (index, row) in rows.iter_mut().enumerate() {
        row[index % c] += odd[index % odd.len()];
    }
    let logits = Tensor::from_vec(rows.concat(), (n, c), &Device::Cpu)?;
    // Some are no class.
    let labels: Vec<i64> = (0..n).map(|_| ((numbers.one() + 1.0) / 2.0 * (c + 1) as f64) as i64).collect();
    let wanted = ops::count_correct(&logits, &Tensor::new(labels.as_slice(), &Device::Cpu)?)?.to_scalar::<u32>()?;

    let mut input = Memory::of(&logits)?;
    let mut as_u8 = Memory::new(labels.iter().map(|&label| label as u8).collect());
    let mut as_u32 = Memory::new(labels.iter().map(|&label| label as u32).collect());
    let mut as_i64 = Memory::new(labels);
    for labels in [(as_u8.at(), Labels::U8), (as_u32.at(), Labels::U32), (as_i64.at(), Labels::I64)] {
        let mut correct = Memory::<u32>::empty(1);
        gpu.run(launch::count_correct(input.at(), labels, correct.at(), [n, c]));
        assert_eq!(correct.values(), [wanted]);
    }
    Ok(())
}

/// Every sign, exponent and upper half of a mantissa, with lower halves around the middle, where ties are.
#[test]
fn bf16() -> Result<()> {
    let Some(gpu) = Gpu::new(false) else { return Ok(()) };
    let halves = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
    let values = (0..=0xffffu32).flat_map(|upper| halves.map(|lower| f32::from_bits(upper << 16 | lower)));
    let values: Vec<f32> = values.collect();
    let count = values.len();
    let (mut x, mut y) = (Memory::new(values.clone()), Memory::<f32>::empty(count));
    let mut rounded = Memory::new(vec![i32::MARK; count.div_ceil(2)]);
    gpu.run(launch::to_bf16(x.at(), rounded.at(), count));
    rounded.values();
    gpu.run(launch::from_bf16(rounded.at(), y.at(), count));
    let wanted = Tensor::new(values, &Device::Cpu)?.to_dtype(DType::BF16)?.to_dtype(DType::F32)?;
    y.assert_equal("bf16", &wanted)
}

/// With `stored` the settings are read from memory, as in a CUDA graph.
fn optimizer_case(
    lengths: &[usize],
    settings: (f64, f64, f64, f64),
    nesterov: bool,
    stored: bool,
    seed: u64,
) -> Result<()> {
    let Some(gpu) = Gpu::new(seed.is_multiple_of(2)) else { return Ok(()) };
    let (learning_rate, weight_decay, momentum, dampening) = settings;
    let nesterov = nesterov && momentum > 0.0;
    let dampening = if nesterov { 0.0 } else { dampening };
    let mut numbers = Numbers::new(seed);
    let start = lengths.iter().map(|&length| numbers.tensor(&[length])).collect::<Result<Vec<_>>>()?;
    let vars = || start.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>();
    let mut parameters = start.iter().map(Memory::of).collect::<Result<Vec<_>>>()?;
    let mut adapted = start.iter().map(Memory::of).collect::<Result<Vec<_>>>()?;
    let zeros = || lengths.iter().map(|&length| Memory::new(vec![0f32; length])).collect::<Vec<_>>();
    let (mut buffers, mut first, mut second) = (zeros(), zeros(), zeros());

    let config = SgdConfig { learning_rate, momentum, weight_decay, nesterov, dampening };
    let (of_sgd, of_adamw) = (vars()?, vars()?);
    let mut memory = Memory::<f32>::empty(lengths.len() * launch::SETTINGS);
    let mut step_all = |kernel: &'static str, mut entries: Vec<launch::Entry>| {
        let at = if stored { memory.at() } else { 0 };
        if stored {
            launch::store_settings(&entries, at).into_iter().for_each(|launch| gpu.run(launch));
            entries.iter_mut().for_each(|entry| entry.settings = [f32::NAN; launch::SETTINGS]);
        }
        launch::step(kernel, &entries, at).into_iter().for_each(|launch| gpu.run(launch));
        memory.values();
    };
    let group = |vars: &[Var], config| vec![ParameterGroup { vars: vars.to_vec(), config }];
    let mut sgd = SGD::with_groups(group(&of_sgd, config))?;
    let adamw_config = AdamWConfig { learning_rate: 0.01, weight_decay, ..Default::default() };
    let mut adamw = AdamW::with_groups(vec![ParameterGroup { vars: of_adamw.clone(), config: adamw_config }])?;
    for step in 1..=3i32 {
        let gradients = lengths.iter().map(|&length| numbers.tensor(&[length])).collect::<Result<Vec<_>>>()?;
        // d Σ p · g / dp = g.
        let loss = |vars: &[Var]| -> Result<Tensor> {
            let sums = vars.iter().zip(&gradients).map(|(var, g)| (var.as_tensor() * g)?.sum_all());
            Tensor::stack(&sums.collect::<Result<Vec<_>>>()?, 0)?.sum_all()
        };
        sgd.backward_step(&loss(&of_sgd)?)?;
        adamw.backward_step(&loss(&of_adamw)?)?;

        let mut grads = gradients.iter().map(Memory::of).collect::<Result<Vec<_>>>()?;
        let (old, fresh) = if step == 1 { (0.0, 1.0) } else { (momentum, 1.0 - dampening) };
        let settings = [learning_rate, weight_decay, momentum, old, fresh].map(|v| v as f32);
        let entries: Vec<_> = (0..lengths.len())
            .map(|i| {
                let buffer = if momentum == 0.0 { 0 } else { buffers[i].at() };
                launch::sgd_entry(parameters[i].at(), grads[i].at(), buffer, lengths[i], settings, nesterov)
            })
            .collect();
        step_all("sgd_step", entries);

        let AdamWConfig { learning_rate, beta1, beta2, eps, weight_decay } = adamw_config;
        let (size, root) = (learning_rate / (1.0 - beta1.powi(step)), (1.0 - beta2.powi(step)).sqrt());
        let settings = [1.0 - learning_rate * weight_decay, size, root, eps, beta2, 1.0 - beta1, 1.0 - beta2];
        let settings = settings.map(|v| v as f32);
        let entries: Vec<_> = (0..lengths.len())
            .map(|i| {
                let moments = [first[i].at(), second[i].at()];
                launch::adamw_entry(adapted[i].at(), grads[i].at(), moments, lengths[i], settings)
            })
            .collect();
        step_all("adamw_step", entries);
    }
    for i in 0..lengths.len() {
        assert_gradient("SGD", &parameters[i], of_sgd[i].as_tensor())?;
        assert_gradient("AdamW", &adapted[i], of_adamw[i].as_tensor())?;
    }
    Ok(())
}
