//! Training and inference speed of one network in this crate, plain candle and PyTorch, side by side:
//!
//! `cargo run --release -p candle-cnn --example bench -- [--python PATH] [--rounds N] [--batches 32,128,512]
//! [--modes train,infer] [--only NAME,…] [--threads N]`
//!
//! Each contender is a process of its own, so that its peak memory is its own. All are started, warmed up, and then
//! take turns; what is printed is the median over the rounds, with the slowest and the fastest. `--python` (or the
//! environment variable `BENCH_PYTHON`) names a Python with PyTorch; without it PyTorch is left out.
//! `CANDLE_CNN_ISA=avx2` or `plain` switches vector code off in this crate.
//!
//! The network is four times convolution 3×3, batch norm, ReLU, max-pool (3 → 32 → 64 → 128 → 256 channels) and dense
//! layers 1024 → 512 → 128 → 10 on pictures of 32×32; the optimiser is SGD with momentum and weight decay.

use candle_cnn::layers::{BatchNormConfig, Conv2dConfig, ConvBlock, Linear, batch_norm2d, conv2d, linear};
use candle_cnn::{ops, optim, parameters::Parameters, random};
use candle_core::{DType, Device, Tensor};
use candle_nn::{Module, ModuleT, Optimizer, VarBuilder, VarMap};
use rand::Rng;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

type Error = Box<dyn std::error::Error>;

const CHANNELS: [usize; 5] = [3, 32, 64, 128, 256];
const DENSE: [usize; 4] = [1024, 512, 128, 10];
const CLASSES: u32 = 10;
/// What one measurement should take at least, so that the clock's steps do not count.
const SECONDS: f64 = 0.25;

/// A network that can make one step.
trait Contender {
    fn train(&mut self, images: &Tensor, labels: &Tensor) -> candle_core::Result<()>;
    fn infer(&self, images: &Tensor) -> candle_core::Result<()>;
}

/// This crate; `fused` or layer by layer, as a learner writes it.
struct Ours {
    blocks: Vec<ConvBlock>,
    dense: Vec<Linear>,
    sgd: optim::SGD,
    fused: bool,
}

impl Ours {
    fn new(fused: bool) -> candle_core::Result<Self> {
        let parameters = Parameters::new(0);
        let vb = parameters.var_builder(&Device::Cpu);
        let same = Conv2dConfig { padding: 1, ..Default::default() };
        let block = |i: usize| {
            let conv = conv2d(CHANNELS[i], CHANNELS[i + 1], 3, same, vb.pp(format!("conv{i}")))?;
            let bn = batch_norm2d(CHANNELS[i + 1], BatchNormConfig::default(), vb.pp(format!("bn{i}")))?;
            Ok(ConvBlock::new(conv, bn))
        };
        let blocks = (0..4).map(block).collect::<candle_core::Result<_>>()?;
        let dense = (0..3).map(|i| linear(DENSE[i], DENSE[i + 1], vb.pp(format!("fc{i}"))));
        let dense = dense.collect::<candle_core::Result<_>>()?;
        let config = optim::SgdConfig { learning_rate: 1e-3, momentum: 0.9, weight_decay: 1e-3, ..Default::default() };
        let sgd = optim::SGD::new(parameters.trainable(), config)?;
        Ok(Self { blocks, dense, sgd, fused })
    }

    fn forward(&self, images: &Tensor, train: bool) -> candle_core::Result<Tensor> {
        let mut x = images.clone();
        for block in &self.blocks {
            x = if self.fused {
                block.forward_t(&x, train)?
            } else {
                let y = block.bn().forward_t(&block.conv().forward(&x)?, train)?;
                ops::max_pool2d(&ops::relu(&y)?, 2, 2)?
            };
        }
        x = ops::flatten(&x)?;
        x = ops::relu(&self.dense[0].forward(&x)?)?;
        x = ops::relu(&self.dense[1].forward(&x)?)?;
        self.dense[2].forward(&x)
    }
}

impl Contender for Ours {
    fn train(&mut self, images: &Tensor, labels: &Tensor) -> candle_core::Result<()> {
        let loss = ops::cross_entropy(&self.forward(images, true)?, labels)?;
        self.sgd.backward_step(&loss)?;
        loss.to_scalar::<f32>().map(drop)
    }
    fn infer(&self, images: &Tensor) -> candle_core::Result<()> {
        self.forward(images, false).map(drop)
    }
}

/// candle_nn's layers and its SGD, which has neither momentum nor weight decay.
struct Plain {
    convs: Vec<(candle_nn::Conv2d, candle_nn::BatchNorm)>,
    dense: Vec<candle_nn::Linear>,
    sgd: candle_nn::SGD,
}

impl Plain {
    fn new() -> candle_core::Result<Self> {
        let map = VarMap::new();
        let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        let same = candle_nn::Conv2dConfig { padding: 1, ..Default::default() };
        let block = |i: usize| {
            let conv = candle_nn::conv2d(CHANNELS[i], CHANNELS[i + 1], 3, same, vb.pp(format!("conv{i}")))?;
            Ok((conv, candle_nn::batch_norm(CHANNELS[i + 1], 1e-5, vb.pp(format!("bn{i}")))?))
        };
        let convs = (0..4).map(block).collect::<candle_core::Result<_>>()?;
        let dense = (0..3).map(|i| candle_nn::linear(DENSE[i], DENSE[i + 1], vb.pp(format!("fc{i}"))));
        Ok(Self {
            convs,
            dense: dense.collect::<candle_core::Result<_>>()?,
            sgd: candle_nn::SGD::new(map.all_vars(), 1e-3)?,
        })
    }

    fn forward(&self, images: &Tensor, train: bool) -> candle_core::Result<Tensor> {
        let mut x = images.clone();
        for (conv, bn) in &self.convs {
            x = bn.forward_t(&conv.forward(&x)?, train)?.relu()?.max_pool2d(2)?;
        }
        x = self.dense[0].forward(&x.flatten_from(1)?)?.relu()?;
        x = self.dense[1].forward(&x)?.relu()?;
        self.dense[2].forward(&x)
    }
}

impl Contender for Plain {
    fn train(&mut self, images: &Tensor, labels: &Tensor) -> candle_core::Result<()> {
        let loss = candle_nn::loss::cross_entropy(&self.forward(images, true)?, labels)?;
        self.sgd.backward_step(&loss)?;
        loss.to_scalar::<f32>().map(drop)
    }
    fn infer(&self, images: &Tensor) -> candle_core::Result<()> {
        self.forward(images, false).map(drop)
    }
}

/// A matrix product of 1024 × 1024, the machine's yardstick.
const PRODUCT: usize = 1024;

/// Answers each line "mode batch steps" on the standard input with "seconds peak-MiB".
fn work(name: &str) -> Result<(), Error> {
    let mut contender: Option<Box<dyn Contender>> = match name {
        "candle" => Some(Box::new(Plain::new()?)),
        "candle-cnn" => Some(Box::new(Ours::new(true)?)),
        "candle-cnn separate" => Some(Box::new(Ours::new(false)?)),
        _ => None,
    };
    let a = Tensor::randn(0f32, 1., (PRODUCT, PRODUCT), &Device::Cpu)?;
    let mut data: Option<(Tensor, Tensor)> = None;
    for line in std::io::stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [mode, batch, steps] = words[..] else { return Err(format!("a worker got {line:?}").into()) };
        let (batch, steps): (usize, usize) = (batch.parse()?, steps.parse()?);
        if data.as_ref().is_none_or(|(images, _)| images.dims()[0] != batch) {
            let mut random = random::stream(0, "bench", &[batch as u64]);
            let pixels: Vec<f32> = (0..batch * 3 * 32 * 32).map(|_| random.random_range(-1.0..1.0)).collect();
            let labels: Vec<u32> = (0..batch as u32).map(|i| i % CLASSES).collect();
            let images = Tensor::from_vec(pixels, (batch, 3, 32, 32), &Device::Cpu)?;
            data = Some((images, Tensor::from_vec(labels, batch, &Device::Cpu)?));
        }
        let Some((images, labels)) = &data else { continue };
        let start = Instant::now();
        for _ in 0..steps {
            match (&mut contender, mode) {
                (Some(contender), "train") => contender.train(images, labels)?,
                (Some(contender), _) => contender.infer(images)?,
                (None, _) => drop(a.matmul(&a)?),
            }
        }
        println!("{} {}", start.elapsed().as_secs_f64(), peak_mib());
    }
    Ok(())
}

/// Largest resident memory of this process since it was last asked, in MiB; 0 where the system does not tell.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    // Linux starts the count anew when a 5 is written here.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    kib.unwrap_or_default() / 1024.0
}

/// A contender's process.
struct Worker {
    name: String,
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    fn start(name: &str, mut command: Command) -> Result<Self, Error> {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("a worker without pipes".into());
        };
        Ok(Self { name: name.to_string(), process, input, output: BufReader::new(output) })
    }

    /// Seconds for `steps` steps, and the peak memory in MiB.
    fn run(&mut self, mode: &str, batch: usize, steps: usize) -> Result<(f64, f64), Error> {
        writeln!(self.input, "{mode} {batch} {steps}")?;
        self.input.flush()?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let mut numbers = line.split_whitespace().map(str::parse::<f64>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(seconds)), Some(Ok(peak))) => Ok((seconds, peak)),
            _ => Err(format!("{} ended, or said {line:?}", self.name).into()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.next().and_then(|_| arguments.next())
}

fn main() -> Result<(), Error> {
    if let Some(name) = argument("--worker") {
        return work(&name);
    }
    let cores = std::thread::available_parallelism()?.get();
    let threads = argument("--threads").map_or(Ok(cores), |n| n.parse())?;
    let rounds: usize = argument("--rounds").map_or(Ok(7), |n| n.parse())?;
    let batches = argument("--batches").unwrap_or_else(|| "32,128,512".into());
    let batches = batches.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
    let modes = argument("--modes").unwrap_or_else(|| "train,infer".into());
    let only = argument("--only");
    let python = argument("--python").or_else(|| std::env::var("BENCH_PYTHON").ok());

    let mut workers = Vec::new();
    let wanted = |name: &str| only.as_ref().is_none_or(|only| only.split(',').any(|o| o == name));
    for name in ["product", "candle-cnn", "candle-cnn separate", "candle"] {
        if wanted(name) || name == "product" {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--worker", name]).env("RAYON_NUM_THREADS", threads.to_string());
            workers.push(Worker::start(name, command)?);
        }
    }
    if let Some(python) = &python {
        for (name, layout) in [("PyTorch", "contiguous"), ("PyTorch channels-last", "channels_last")] {
            if wanted("PyTorch") {
                let mut command = Command::new(python);
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/bench_pytorch.py");
                command.args([script, layout, &threads.to_string()]);
                workers.push(Worker::start(name, command)?);
            }
        }
    }
    println!("threads: {threads}; vector code of this crate: {:?}; rounds: {rounds}", candle_cnn::instruction_set());
    println!("images/s: median (slowest – fastest); memory: peak of the process\n");
    println!("| mode | batch | contender | images/s | | memory, MiB | of PyTorch's better layout |");
    println!("|---|---:|---|---:|---|---:|---:|");
    let mut product = Vec::new();
    for mode in modes.split(',') {
        for &batch in &batches {
            // (steps, images/s of each round, peak) of each worker.
            let mut results: Vec<(usize, Vec<f64>, f64)> = Vec::new();
            for worker in &mut workers {
                worker.run(mode, batch, 2)?;
                let (seconds, _) = worker.run(mode, batch, 1)?;
                let steps = ((SECONDS / seconds) as usize).clamp(1, 200);
                results.push((steps, Vec::new(), 0.0));
            }
            for _ in 0..rounds {
                for (worker, (steps, rates, peak)) in workers.iter_mut().zip(&mut results) {
                    let (seconds, mib) = worker.run(mode, batch, *steps)?;
                    if worker.name == "product" {
                        product.push(2.0 * (PRODUCT as f64).powi(3) * *steps as f64 / seconds * 1e-9);
                    } else {
                        rates.push((batch * *steps) as f64 / seconds);
                        *peak = peak.max(mib);
                    }
                }
            }
            let better = workers.iter().zip(&mut results).filter(|(worker, _)| worker.name.starts_with("PyTorch"));
            let better = better.map(|(_, (_, rates, _))| median(rates)).fold(f64::NAN, f64::max);
            for (worker, (_, rates, peak)) in workers.iter().zip(&mut results) {
                if rates.is_empty() {
                    continue;
                }
                let middle = median(rates);
                let (slowest, fastest) = (rates[0], rates[rates.len() - 1]);
                let of = if better.is_nan() { "–".to_string() } else { format!("{:.2}", middle / better) };
                let name = &worker.name;
                println!(
                    "| {mode} | {batch} | {name} | {middle:.0} | {slowest:.0} – {fastest:.0} | {peak:.0} | {of} |"
                );
            }
        }
    }
    let middle = median(&mut product);
    println!(
        "\nmatrix product {PRODUCT}³ by gemm: {middle:.0} GFLOP/s ({:.0} – {:.0})",
        product[0],
        product[product.len() - 1]
    );
    Ok(())
}
