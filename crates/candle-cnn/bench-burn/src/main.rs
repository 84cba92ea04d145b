//! burn's side of `examples/bench.rs`, whose option `--burn` takes this program: answers each line "training batch steps" on
//! standard input with "seconds peak-MiB". Its argument is the network's layers as in `examples/bench/networks.rs`.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::pool::MaxPool2dConfig;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{GradientsParams, SgdConfig, decay::WeightDecayConfig, momentum::MomentumConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Int, Tensor};
use std::time::Instant;

/// A convolution and its batch norm.
#[derive(Module, Debug)]
struct Conv {
    conv: Conv2d,
    norm: BatchNorm,
}

impl Conv {
    fn new(inputs: usize, outputs: usize, kernel: usize, stride: usize, bias: bool, device: &Device) -> Self {
        let side = kernel / 2;
        let config = Conv2dConfig::new([inputs, outputs], [kernel, kernel])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(side, side, side, side))
            .with_bias(bias);
        Self { conv: config.init(device), norm: BatchNormConfig::new(outputs).init(device) }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(x))
    }
}

/// A basic block of ResNet.
#[derive(Module, Debug)]
struct Block {
    first: Conv,
    second: Conv,
    shortcut: Option<Conv>,
}

impl Block {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.second.forward(relu(self.first.forward(x.clone())));
        relu(y + self.shortcut.as_ref().map_or(x.clone(), |shortcut| shortcut.forward(x)))
    }
}

/// The modules in the order of the words that have one.
#[derive(Module, Debug)]
struct Network {
    convs: Vec<Conv>,
    blocks: Vec<Block>,
    linears: Vec<Linear>,
}

impl Network {
    fn new(layers: &str, device: &Device) -> Self {
        let (mut channels, mut side) = (3, 32);
        let mut own = Self { convs: Vec::new(), blocks: Vec::new(), linears: Vec::new() };
        for word in layers.split(' ') {
            let (size, stride) = word[1..].split_once('/').map_or((&word[1..], 1), |(size, _)| (size, 2));
            let outputs = size.trim_end_matches('+').parse().unwrap_or(channels);
            let conv = |inputs, kernel, stride, bias| Conv::new(inputs, outputs, kernel, stride, bias, device);
            match &word[..1] {
                "c" => own.convs.push(conv(channels, 3, 1, word.ends_with('+'))),
                "m" => side /= 2,
                "r" => {
                    let other = stride != 1 || channels != outputs;
                    own.blocks.push(Block {
                        first: conv(channels, 3, stride, false),
                        second: conv(outputs, 3, 1, false),
                        shortcut: other.then(|| conv(channels, 1, stride, false)),
                    });
                    side /= stride;
                }
                "a" => side = 1,
                _ => {
                    own.linears.push(LinearConfig::new(channels * side * side, outputs).init(device));
                    side = 1;
                }
            }
            channels = outputs;
        }
        own
    }

    fn forward(&self, layers: &str, mut x: Tensor<4>) -> Tensor<2> {
        let (mut convs, mut blocks) = (self.convs.iter(), self.blocks.iter());
        let pool = MaxPool2dConfig::new([2, 2]).init();
        for word in layers.split(' ') {
            x = match &word[..1] {
                "c" => relu(convs.next().expect("a convolution for each c").forward(x)),
                "m" => pool.forward(x),
                "r" => blocks.next().expect("a block for each r").forward(x),
                "a" => x.mean_dims(&[2, 3]),
                _ => break,
            };
        }
        let mut y: Tensor<2> = x.flatten(1, 3);
        for (i, linear) in self.linears.iter().enumerate() {
            y = linear.forward(if i > 0 { relu(y) } else { y });
        }
        y
    }
}

fn main() {
    let layers = std::env::args().next_back().unwrap_or_default();
    let device = Device::flex();
    let training = device.clone().autodiff();
    let mut network = Network::new(&layers, &training);
    let mut sgd = SgdConfig::new()
        .with_momentum(Some(MomentumConfig::new().with_dampening(0.0)))
        .with_weight_decay(Some(WeightDecayConfig::new(1e-3)))
        .init();
    let entropy = CrossEntropyLossConfig::new().init(&training);
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        let (batch, steps): (i64, usize) = (words[1].parse().expect("a batch"), words[2].parse().expect("a number"));
        let images = || Tensor::<4>::random([batch as usize, 3, 32, 32], Distribution::Uniform(-1.0, 1.0), &training);
        let (images, labels) = (images(), Tensor::<1, Int>::arange(0..batch, &training).remainder_scalar(10));
        let start = Instant::now();
        for _ in 0..steps {
            let loss = entropy.forward(network.forward(&layers, images.clone()), labels.clone());
            let gradients = GradientsParams::from_grads(loss.backward(), &network);
            network = sgd.step(1e-3, network, gradients);
            let loss: f32 = loss.into_scalar();
            assert!(loss.is_finite(), "the loss is {loss}");
        }
        println!("{} {}", start.elapsed().as_secs_f64(), peak_mib());
    }
}

/// Peak resident memory of this process, in MiB; 0 if the system doesn't report it.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}
