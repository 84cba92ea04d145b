//! Training and inference speed of one network in this crate, plain candle and PyTorch, side by side, as Markdown:
//!
//! `cargo run --release -p candle-cnn --example bench -- [--python PATH] [OPTION…]` (`--help` lists them)
//!
//! Each contender runs in its own process, so that its peak memory is its own. All are warmed up and then take turns;
//! the median over the rounds is printed, with the slowest and the fastest. `--python` names a Python with PyTorch;
//! without it PyTorch is not measured. If the CPU has AVX-512, a second table follows with it switched off. In this
//! repository `cargo lab bench` starts it.
//!
//! Built with the feature `cuda` or `cudnn`, on a machine with an NVIDIA GPU, it measures there, with a table for each
//! precision: `f32` (without TF32), TF32, and bf16 (PyTorch by `torch.autocast`). This crate also runs as a CUDA graph,
//! and PyTorch by `torch.compile`. No step reads its loss; the clock is read when the GPU is done. Below the first
//! table is a lower bound for the time of a step (see [`Floor`]).
//!
//! `--network` names one of [`NETWORKS`], for pictures of 32×32: the notebooks' (`net`), ResNet-18 or VGG11 in the forms that
//! are usual for CIFAR-10, with SGD with momentum and weight decay; or that of the CIFAR-10 record with its optimizer
//! (`bench/record.rs`), on the CPU. Before it measures, it checks that this crate computes PyTorch's logits and gradients.
//! `--burn` names what `cargo build --release` makes in `bench-burn`, a crate of its own.

use candle_cnn::layers::Sequential;
use candle_cnn::precision::{Precision, set_precision};
use candle_cnn::step_graph::StepGraph;
use candle_cnn::{backward, ops, optim, parameters::Parameters, random};
use candle_core::{DType, Device, Tensor};
use candle_nn::{ModuleT, Optimizer};
use clap::Parser;
use rand::Rng;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::time::Instant;

#[path = "bench/networks.rs"]
mod networks;
#[path = "bench/record.rs"]
mod record;

use networks::{Library, NET, NETWORKS, RECORD, layers_of};

type Error = Box<dyn std::error::Error>;

const CLASSES: u32 = 10;
/// The shortest measurement, long enough for the clock's resolution.
const SECONDS: f64 = 0.25;
/// Without AVX-512: what tells this crate, and PyTorch's own kernels, MKL and oneDNN. candle's `gemm` has no such
/// switch.
const WITHOUT_AVX512: [(&str, &str); 4] = [
    ("CANDLE_CNN_ISA", "avx2"),
    ("ATEN_CPU_CAPABILITY", "avx2"),
    ("MKL_ENABLE_INSTRUCTIONS", "AVX2"),
    ("ONEDNN_MAX_CPU_ISA", "AVX2"),
];

/// This crate, with the blocks as one operation, layer by layer, and with `loss.backward()` in place of this crate's
/// `backward`; plain candle; PyTorch in both layouts.
const FUSED: &str = "candle-cnn";
const SEPARATE: &str = "candle-cnn layer by layer";
const CANDLES_BACKWARD: &str = "candle-cnn with candle's backward";
const PLAIN: &str = "plain candle";
const PYTORCH: &str = "PyTorch";
const CHANNELS_LAST: &str = "PyTorch channels-last";
/// Beside `f32`, on the CPU alone.
const CHANNELS_LAST_BF16: &str = "PyTorch channels-last bf16";
/// In training, where `--burn` names it.
const BURN: &str = "burn";
/// On a GPU alone.
const CAPTURED: &str = "candle-cnn as a CUDA graph";
const COMPILED: &str = "PyTorch compiled";
/// Not contenders, but benchmarks of the machine.
const PRODUCT: &str = "matrix product";
const COPY: &str = "copy";

/// A network that can run one step.
trait Contender {
    /// On the CPU the loss is read after each step, as loops there do.
    fn train(&mut self, images: &Tensor, labels: &Tensor) -> candle_core::Result<()>;
    fn infer(&self, images: &Tensor) -> candle_core::Result<()>;
}

/// This crate, as one of the contenders.
struct Ours {
    way: &'static str,
    parameters: Parameters,
    layers: Sequential,
    sgd: optim::SGD,
}

impl Ours {
    fn new(way: &'static str, layers: &str, device: &Device) -> candle_core::Result<Self> {
        let parameters = Parameters::new(0);
        let layers = networks::Ours { fused: way != SEPARATE }.build(layers, &parameters.var_builder(device))?;
        let config = optim::SgdConfig { learning_rate: 1e-3, momentum: 0.9, weight_decay: 1e-3, ..Default::default() };
        let sgd = optim::SGD::new(parameters.trainable(), config)?;
        Ok(Self { way, parameters, layers, sgd })
    }

    /// Writes parameters, images, logits and gradients to a file, for PyTorch to compare with its own.
    fn write_example(&self, images: &Tensor, labels: &Tensor, path: &str) -> Result<(), Error> {
        let vars = self.parameters.trainable();
        let logits = self.layers.forward_t(images, true)?;
        let gradients = backward(&ops::cross_entropy(&logits, labels)?)?;
        let mut tensors: Vec<&Tensor> = vars.iter().map(|var| var.as_tensor()).collect();
        tensors.extend([images, &logits]);
        for var in &vars {
            tensors.push(gradients.get(var).ok_or("a parameter has no gradient")?);
        }
        let mut bytes = Vec::new();
        for tensor in tensors {
            bytes.extend(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().flat_map(f32::to_ne_bytes));
        }
        Ok(std::fs::write(path, bytes)?)
    }
}

impl Contender for Ours {
    fn train(&mut self, images: &Tensor, labels: &Tensor) -> candle_core::Result<()> {
        let loss = ops::cross_entropy(&self.layers.forward_t(images, true)?, labels)?;
        let gradients = if self.way == CANDLES_BACKWARD { loss.backward()? } else { backward(&loss)? };
        self.sgd.step(&gradients)?;
        read_on_the_cpu(&loss)
    }
    fn infer(&self, images: &Tensor) -> candle_core::Result<()> {
        self.layers.forward_t(images, false).map(drop)
    }
}

fn read_on_the_cpu(loss: &Tensor) -> candle_core::Result<()> {
    if loss.device().is_cpu() { loss.to_scalar::<f32>().map(drop) } else { Ok(()) }
}

/// This crate, each training step as one CUDA graph; a batch of another size makes another graph.
struct Captured {
    net: Rc<Ours>,
    sgd: optim::SGD,
    graph: Option<(usize, StepGraph<'static>)>,
}

impl Captured {
    fn new(layers: &str, device: &Device) -> candle_core::Result<Self> {
        let mut net = Ours::new(FUSED, layers, device)?;
        // Its own, since the network is shared with the graph.
        let sgd = std::mem::replace(&mut net.sgd, optim::SGD::new(Vec::new(), Default::default())?);
        Ok(Self { net: net.into(), sgd, graph: None })
    }
}

impl Contender for Captured {
    fn train(&mut self, images: &Tensor, labels: &Tensor) -> candle_core::Result<()> {
        let (net, batch) = (self.net.clone(), images.dim(0)?);
        let graph = match self.graph.take().filter(|(own, _)| *own == batch) {
            Some(graph) => self.graph.insert(graph),
            None => self.graph.insert((
                batch,
                StepGraph::new(move |images, labels| {
                    let logits = net.layers.forward_t(images, true)?;
                    Ok((ops::cross_entropy(&logits, labels)?, logits))
                }),
            )),
        };
        read_on_the_cpu(&graph.1.run(&mut self.sgd, images, labels)?.loss)
    }
    fn infer(&self, images: &Tensor) -> candle_core::Result<()> {
        self.net.infer(images)
    }
}

/// candle_nn's layers and its SGD, which has neither momentum nor weight decay.
struct Plain {
    layers: Sequential,
    sgd: candle_nn::SGD,
}

impl Plain {
    fn new(layers: &str, device: &Device) -> candle_core::Result<Self> {
        let parameters = Parameters::new(0);
        let layers = networks::Plain.build(layers, &parameters.var_builder(device))?;
        Ok(Self { layers, sgd: candle_nn::SGD::new(parameters.trainable(), 1e-3)? })
    }
}

impl Contender for Plain {
    fn train(&mut self, images: &Tensor, labels: &Tensor) -> candle_core::Result<()> {
        let loss = candle_nn::loss::cross_entropy(&self.layers.forward_t(images, true)?, labels)?;
        self.sgd.backward_step(&loss)?;
        read_on_the_cpu(&loss)
    }
    fn infer(&self, images: &Tensor) -> candle_core::Result<()> {
        self.layers.forward_t(images, false).map(drop)
    }
}

/// Rows and columns of the matrices of [`PRODUCT`]; less does not fill a GPU.
fn side(device: &Device) -> usize {
    if device.is_cpu() { 1024 } else { 8192 }
}

/// Values in the vector of [`COPY`]: 1 GiB, larger than any cache.
const COPIED: usize = 1 << 28;

/// Answers each line "mode batch steps" on the standard input with "seconds peak-MiB", and "check batch file" with zeros.
fn work(name: &str, options: &Options) -> Result<(), Error> {
    let (device, layers) = (&options.device, layers_of(&options.network));
    // A worker is given one.
    set_precision(options.precisions.first().copied().unwrap_or(Precision::F32));
    let mut contender: Option<Box<dyn Contender>> = match name {
        PLAIN => Some(Box::new(Plain::new(layers, device)?)),
        FUSED if options.network == RECORD => Some(Box::new(record::Record::new(device)?)),
        FUSED => Some(Box::new(Ours::new(FUSED, layers, device)?)),
        SEPARATE => Some(Box::new(Ours::new(SEPARATE, layers, device)?)),
        CANDLES_BACKWARD => Some(Box::new(Ours::new(CANDLES_BACKWARD, layers, device)?)),
        CAPTURED => Some(Box::new(Captured::new(layers, device)?)),
        _ => None,
    };
    let yardstick = match name {
        PRODUCT => Some(Tensor::randn(0f32, 1., (side(device), side(device)), device)?),
        COPY => Some(Tensor::zeros(COPIED, DType::F32, device)?),
        _ => None,
    };
    let mut data: Option<(Tensor, Tensor)> = None;
    for line in std::io::stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        let [mode, batch, rest] = words[..] else { return Err(format!("a worker received {line:?}").into()) };
        let batch: usize = batch.parse()?;
        if data.as_ref().is_none_or(|(images, _)| images.dims()[0] != batch) {
            let mut random = random::stream(0, "bench", &[batch as u64]);
            let pixels: Vec<f32> = (0..batch * 3 * 32 * 32).map(|_| random.random_range(-1.0..1.0)).collect();
            let labels: Vec<u32> = (0..batch as u32).map(|i| i % CLASSES).collect();
            let images = Tensor::from_vec(pixels, (batch, 3, 32, 32), device)?;
            data = Some((images, Tensor::from_vec(labels, batch, device)?));
        }
        let Some((images, labels)) = &data else { continue };
        if mode == "check" {
            Ours::new(FUSED, layers, device)?.write_example(images, labels, rest)?;
            println!("0 0");
            continue;
        }
        let steps: usize = rest.parse()?;
        device.synchronize()?;
        let start = Instant::now();
        for _ in 0..steps {
            match (&mut contender, &yardstick, mode) {
                (Some(contender), _, "training") => contender.train(images, labels)?,
                (Some(contender), _, _) => contender.infer(images)?,
                (None, Some(x), _) if name == PRODUCT => drop(x.matmul(x)?),
                (None, Some(x), _) => drop(x.copy()?),
                (None, None, _) => return Err(format!("unknown contender {name:?}").into()),
            }
        }
        device.synchronize()?;
        println!("{} {}", start.elapsed().as_secs_f64(), peak_mib());
    }
    Ok(())
}

/// Peak resident memory of this process since the last call, in MiB; 0 if the system doesn't report it.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    // Linux starts the count anew when a 5 is written here.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    kib.unwrap_or_default() / 1024.0
}

/// The least work of a training step of the notebooks' network, and so a lower bound for its time: the larger of the times
/// for arithmetic and for memory, at the measured speeds of this machine.
struct Floor {
    /// Floating-point operations.
    flops: f64,
    /// Bytes to and from memory.
    bytes: f64,
}

impl Floor {
    fn of(batch: usize) -> Self {
        const CHANNELS: [usize; 5] = [3, 32, 64, 128, 256];
        const DENSE: [usize; 4] = [1024, 512, 128, 10];
        let (mut products, mut first, mut outputs, mut parameters) = (0, 0, 0, 0);
        for (i, side) in [32, 16, 8, 4].into_iter().enumerate() {
            let (inputs, channels) = (CHANNELS[i], CHANNELS[i + 1]);
            let of_layer = side * side * inputs * 9 * channels;
            if i == 0 {
                first = of_layer;
            }
            products += of_layer;
            outputs += side * side * channels;
            parameters += inputs * 9 * channels + 3 * channels;
        }
        for sizes in DENSE.windows(2) {
            products += sizes[0] * sizes[1];
            parameters += (sizes[0] + 1) * sizes[1];
        }
        // Forward, and backward twice as much, but for the gradient of the pictures; a product is two operations.
        let flops = 2 * batch * (3 * products - first);
        // Of each convolution's output and of its pooled quarter: written and read, its gradient written and read, and
        // read again for it. A parameter: read in both passes; its gradient written and read; itself and its momentum
        // read and written.
        let values = 5 * batch * (outputs + outputs / 4) + 8 * parameters;
        Self { flops: flops as f64, bytes: (values * size_of::<f32>()) as f64 }
    }

    /// In milliseconds, at these operations and bytes per second.
    fn milliseconds(&self, flops: f64, bytes: f64) -> f64 {
        1e3 * (self.flops / flops).max(self.bytes / bytes)
    }
}

/// A contender's process.
struct Worker {
    name: &'static str,
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    fn start(name: &'static str, command: &mut Command) -> Result<Self, Error> {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("a worker without pipes".into());
        };
        Ok(Self { name, process, input, output: BufReader::new(output) })
    }

    /// Seconds for `steps` steps, and the peak memory in MiB; `None` if the contender failed and printed its error.
    fn run(&mut self, mode: &str, batch: usize, steps: impl Display) -> Option<(f64, f64)> {
        writeln!(self.input, "{mode} {batch} {steps}").and_then(|()| self.input.flush()).ok()?;
        let mut line = String::new();
        self.output.read_line(&mut line).ok()?;
        let mut numbers = line.split_whitespace().map(str::parse::<f64>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }

    /// Warms up and returns the number of steps of one measurement.
    fn warm_up(&mut self, mode: &str, batch: usize, on_gpu: bool) -> Option<usize> {
        // A CUDA graph is captured at the fourth step, and cuDNN and torch.compile look for what is fast before.
        let (seconds, _) = self.run(mode, batch, if on_gpu { 10 } else { 1 })?;
        // A step as long as that needs no second one to be warm.
        let again = seconds < 10.0 * SECONDS;
        let (seconds, _) = if again { self.run(mode, batch, 1)? } else { (seconds, 0.0) };
        // More than 200 steps gain nothing.
        Some(((SECONDS / seconds) as usize).clamp(1, 200))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Measures training and inference of one network in candle-cnn, plain candle and PyTorch, side by side
#[derive(Parser)]
struct Options {
    /// The network
    #[arg(long, value_name = "NAME", default_value = NET, value_parser = NETWORKS.map(|(name, _)| name))]
    network: String,
    /// A Python with PyTorch [default: don't measure PyTorch]
    #[arg(long, value_name = "PYTHON")]
    python: Option<String>,
    /// burn's side, built in `bench-burn`; it only trains, on the CPU [default: don't measure burn]
    #[arg(long, value_name = "PROGRAM")]
    burn: Option<String>,
    /// Rounds to take the median of [default: of net 11, of others 3]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    rounds: usize,
    /// Batch sizes [default: of net 32,128,512, of record 2000, of others 128]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    batches: Vec<usize>,
    /// What to measure
    #[arg(long, value_name = "MODE,…", value_delimiter = ',', default_value = "training,inference")]
    #[arg(value_parser = ["training", "inference"])]
    modes: Vec<String>,
    /// Contenders, by the names in the table [default: all]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    only: Vec<String>,
    /// CPU only: with all instruction sets, without AVX-512
    #[arg(long, value_name = "TABLE,…", value_delimiter = ',', default_value = "full,avx2")]
    #[arg(value_parser = ["full", "avx2"])]
    tables: Vec<String>,
    /// Threads of each contender
    #[arg(long, value_name = "N", default_value_t = std::thread::available_parallelism().map_or(1, Into::into))]
    threads: usize,
    /// GPU only: one table for each
    #[arg(long, value_name = "PRECISION,…", value_delimiter = ',', default_value = "f32,tf32,bf16")]
    #[arg(value_parser = precision_called)]
    precisions: Vec<Precision>,
    /// The PyTorch benchmark script
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/bench_pytorch.py"))]
    pytorch_script: String,
    /// Where PyTorch computes: auto, or cpu if the GPU is a simulated one that it can't see
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = ["auto", "cpu"])]
    pytorch_device: String,
    /// Where to measure: auto, or cpu even if there is a GPU
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = device_called)]
    device: Device,
    /// Be a contender, told on standard input what to measure: lines of "mode batch steps"
    #[arg(long, value_name = "NAME", hide = true)]
    worker: Option<String>,
}

/// The precision with this name.
fn precision_called(name: &str) -> Result<Precision, String> {
    let known =
        [Precision::F32, Precision::Tf32, Precision::Bf16].into_iter().find(|precision| precision.to_string() == name);
    known.ok_or_else(|| "expected f32, tf32 or bf16".to_string())
}

/// The device with this name.
fn device_called(name: &str) -> Result<Device, String> {
    match name {
        "cpu" => Ok(Device::Cpu),
        "auto" => Device::cuda_if_available(0).map_err(|error| error.to_string()),
        _ => Err("expected auto or cpu".to_string()),
    }
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|own| own == name)
    }

    /// Starts all contenders for `precision`, with `variables` in their environment.
    fn start(&self, precision: Precision, variables: &[(&str, &str)]) -> Result<Vec<Worker>, Error> {
        let mut workers = Vec::new();
        let on_gpu = !self.device.is_cpu();
        let exact = precision == Precision::F32;
        let called = precision.to_string();
        let yardsticks = [PRODUCT].into_iter().chain(on_gpu.then_some(COPY)).filter(|_| exact);
        let ours = [FUSED].into_iter().chain(on_gpu.then_some(CAPTURED));
        let others: &[&str] = match self.network.as_str() {
            NET => &[SEPARATE, CANDLES_BACKWARD, PLAIN],
            RECORD => &[],
            _ => &[PLAIN],
        };
        let ours = ours.chain(others.iter().copied().filter(|_| exact));
        for name in yardsticks.chain(ours).filter(|name| self.wants(name)) {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--worker", name, "--precisions", &called, "--network", &self.network]);
            command.env("RAYON_NUM_THREADS", self.threads.to_string());
            if !on_gpu {
                command.args(["--device", "cpu"]);
            }
            workers.push(Worker::start(name, command.envs(variables.iter().copied()))?);
        }
        let compiled = on_gpu.then_some((COMPILED, "compiled"));
        let reduced = (!on_gpu).then_some((CHANNELS_LAST_BF16, "channels_last"));
        let pytorch = [(PYTORCH, "contiguous"), (CHANNELS_LAST, "channels_last")].into_iter();
        for (name, kind) in pytorch.chain(compiled).chain(reduced) {
            if let Some(python) = self.python.as_ref().filter(|_| self.wants(name)) {
                let mut command = Command::new(python);
                command.args([&self.pytorch_script, kind, &self.threads.to_string()]);
                let precision = if name == CHANNELS_LAST_BF16 { "bf16" } else { &called };
                command.args([if self.pytorch_device == "cpu" || !on_gpu { "cpu" } else { "cuda" }, precision]);
                command.arg(layers_of(&self.network));
                workers.push(Worker::start(name, command.envs(variables.iter().copied()))?);
            }
        }
        if let Some(burn) = self.burn.as_ref().filter(|_| !on_gpu && self.network != RECORD && self.wants(BURN)) {
            let mut command = Command::new(burn);
            command.arg(layers_of(&self.network)).env("RAYON_NUM_THREADS", self.threads.to_string());
            workers.push(Worker::start(BURN, command.envs(variables.iter().copied()))?);
        }
        Ok(workers)
    }
}

/// What was measured of a contender in one mode and at one batch size.
struct Figures {
    name: &'static str,
    /// Steps of one measurement.
    steps: usize,
    /// Images per second in each round.
    rates: Vec<f64>,
    /// Peak memory, in MiB.
    peak: f64,
}

impl Figures {
    /// The ratio to the median of the contender called `other`.
    fn over(&self, other: &str, all: &[Figures]) -> String {
        let other = all.iter().find(|figures| figures.name == other && figures.name != self.name);
        other.map_or("–".to_string(), |other| format!("{:.2}", median(&self.rates) / median(&other.rates)))
    }
}

/// The machine's speed in each round.
#[derive(Default)]
struct Yardsticks {
    /// Floating-point operations.
    flops: Vec<f64>,
    /// Bytes.
    bytes: Vec<f64>,
}

/// Runs the contenders in turns and prints a row for each.
fn measure(workers: &mut [Worker], options: &Options, mode: &str, batch: usize, yardsticks: &mut Yardsticks) {
    let mut all = Vec::new();
    let differs = |worker: &&mut Worker| mode == "training" || ![CANDLES_BACKWARD, BURN].contains(&worker.name);
    let mut workers: Vec<&mut Worker> = workers.iter_mut().filter(differs).collect();
    for worker in &mut workers {
        let steps = worker.warm_up(mode, batch, !options.device.is_cpu()).unwrap_or(0);
        all.push(Figures { name: worker.name, steps, rates: Vec::new(), peak: 0.0 });
    }
    let product = 2.0 * (side(&options.device) as f64).powi(3);
    // Read and written.
    let copy = (2 * COPIED * size_of::<f32>()) as f64;
    for _ in 0..options.rounds {
        for (worker, figures) in workers.iter_mut().zip(&mut all) {
            let Some((seconds, mib)) = worker.run(mode, batch, figures.steps) else { continue };
            figures.rates.push((batch * figures.steps) as f64 / seconds);
            figures.peak = figures.peak.max(mib);
            match worker.name {
                PRODUCT => yardsticks.flops.push(product * figures.steps as f64 / seconds),
                COPY => yardsticks.bytes.push(copy * figures.steps as f64 / seconds),
                _ => {}
            }
        }
    }
    for figures in all.iter().filter(|figures| ![PRODUCT, COPY].contains(&figures.name)) {
        if figures.rates.len() < options.rounds {
            println!("| {mode} | {batch} | {} | failed | | | | | |", figures.name);
            continue;
        }
        let (slowest, middle, fastest) = spread(&figures.rates);
        println!(
            "| {mode} | {batch} | {} | {middle:.0} | {slowest:.0} – {fastest:.0} | {:.0} | {} | {} | {} |",
            figures.name,
            figures.peak,
            figures.over(PYTORCH, &all),
            figures.over(CHANNELS_LAST, &all),
            figures.over(PLAIN, &all),
        );
    }
}

/// The smallest, the median and the largest.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.as_slice() {
        [] => (f64::NAN, f64::NAN, f64::NAN),
        [first, .., last] => (*first, sorted[sorted.len() / 2], *last),
        [one] => (*one, *one, *one),
    }
}

fn median(values: &[f64]) -> f64 {
    spread(values).1
}

fn has_avx512() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Compares logits and gradients of this crate and PyTorch, with the same parameters and images.
fn check(workers: &mut [Worker]) -> Result<(), Error> {
    // Of ReLUs, whose gates rounding opens and closes; a wrong gradient is off by its own size.
    const TOLERANCE: f64 = 2e-2;
    let path = std::env::temp_dir().join(format!("candle-cnn-bench-{}", std::process::id()));
    let mut answer_of = |name: &str| {
        let worker = workers.iter_mut().find(|worker| worker.name == name)?;
        worker.run("check", 8, path.display())
    };
    let errors = answer_of(FUSED).and_then(|_| answer_of(PYTORCH));
    let _ = std::fs::remove_file(&path);
    let Some((logits, gradients)) = errors else { return Ok(()) };
    println!("\nFrom PyTorch's in f64, logits differ by {logits:.0e} and weights' gradients by up to {gradients:.0e}.");
    if logits.max(gradients) < TOLERANCE {
        Ok(())
    } else {
        Err("this crate and PyTorch compute different things".into())
    }
}

fn table(options: &Options, precision: Precision, variables: &[(&str, &str)]) -> Result<(), Error> {
    let mut workers = options.start(precision, variables)?;
    if precision == Precision::F32 && options.network != RECORD {
        check(&mut workers)?;
    }
    println!(
        "\n| mode | batch | contender | images/s | slowest – fastest | peak memory, MiB \
         | × PyTorch | × its channels-last | × plain candle |"
    );
    println!("|---|---:|---|---:|---:|---:|---:|---:|---:|");
    let mut yardsticks = Yardsticks::default();
    for mode in &options.modes {
        for &batch in &options.batches {
            measure(&mut workers, options, mode, batch, &mut yardsticks);
        }
    }
    if yardsticks.flops.is_empty() {
        return Ok(());
    }
    let (slowest, flops, fastest) = spread(&yardsticks.flops);
    let [low, middle, high] = [slowest, flops, fastest].map(|flops| flops * 1e-9);
    let (side, by) = (side(&options.device), if options.device.is_cpu() { "`gemm`" } else { "cuBLAS in `f32`" });
    println!("\nMatrix product of {side}³ by {by}: {middle:.0} GFLOP/s ({low:.0} – {high:.0}).");
    if !options.device.is_cpu() && options.network == NET {
        let bytes = median(&yardsticks.bytes);
        println!("Copy of 1 GiB, read and written: {:.0} GB/s. Lower bounds for a training step in f32:", bytes * 1e-9);
        for &batch in &options.batches {
            let floor = Floor::of(batch);
            let (gflop, mb, least) = (floor.flops * 1e-9, floor.bytes * 1e-6, floor.milliseconds(flops, bytes));
            println!(
                "- batch {batch}: {gflop:.1} GFLOP and {mb:.0} MB, so {least:.3} ms, or {:.0} images/s",
                batch as f64 / least * 1e3
            );
        }
    }
    Ok(())
}

fn main() -> Result<(), Error> {
    let mut options = Options::parse();
    if options.rounds == 0 {
        // A step of the others takes seconds, and one of plain candle a minute.
        options.rounds = if options.network == NET { 11 } else { 3 };
    }
    if options.batches.is_empty() {
        options.batches = match options.network.as_str() {
            NET => vec![32, 128, 512],
            RECORD => vec![2000],
            _ => vec![128],
        };
    }
    if let Some(name) = &options.worker {
        return work(name, &options);
    }
    let wants = |table: &str| options.tables.iter().any(|own| own == table);
    println!(
        "Median of {} rounds in which the contenders took turns, {} threads each; candle 0.11.1.",
        options.rounds, options.threads
    );
    if !options.device.is_cpu() {
        println!("Peak memory is the host's.");
        for &precision in &options.precisions {
            println!("\n#### {precision}");
            table(&options, precision, &[])?;
        }
        return Ok(());
    }
    if wants("full") {
        let set = format!("{:?}", candle_cnn::instruction_set()).to_uppercase();
        println!("\n### With all of the CPU's instructions ({set} in candle-cnn)");
        table(&options, Precision::F32, &[])?;
    }
    if wants("avx2") && has_avx512() {
        println!("\n### Without AVX-512\n");
        let variables = WITHOUT_AVX512.map(|(name, value)| format!("`{name}={value}`")).join(", ");
        println!(
            "candle-cnn and PyTorch are kept to AVX2 by {variables}. candle's `gemm` offers no such switch: plain candle \
             and the matrix product still use AVX-512."
        );
        table(&options, Precision::F32, &WITHOUT_AVX512)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_what_the_network_costs() {
        let (one, two) = (Floor::of(1), Floor::of(2));
        // By hand: 15,040,512 products of convolutions (884,736 of them in the first) and 591,104 of dense layers.
        let forward = 884_736.0 + 3.0 * 4_718_592.0 + 591_104.0;
        assert_eq!(one.flops, 2.0 * (3.0 * forward - 884_736.0));
        assert_eq!(two.flops, 2.0 * one.flops);
        // What a picture adds, and what the parameters take.
        assert_eq!(two.bytes - one.bytes, 4.0 * 5.0 * 1.25 * 61_440.0);
        assert_eq!(2.0 * one.bytes - two.bytes, 4.0 * 8.0 * 981_130.0);
        // The slower of the two decides.
        let millis = |flops, bytes| Floor { flops: 3e9, bytes: 2e6 }.milliseconds(flops, bytes);
        assert_eq!((millis(1e12, 1e12), millis(1e15, 1e9)), (3.0, 2.0));
    }
}
