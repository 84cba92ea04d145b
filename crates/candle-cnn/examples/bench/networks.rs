//! The networks as lists of layers, which this crate and plain candle build here and PyTorch in `bench_pytorch.py`.

use candle_cnn::layers::{self, Activation, BatchNormConfig, BlockPool, Conv2dConfig};
use candle_cnn::layers::{ConvBlock, ConvBlockConfig, Flatten, Sequential};
use candle_cnn::ops;
use candle_core::{Result, Tensor};
use candle_nn::{ModuleT, VarBuilder};

/// That of the CIFAR-10 record, which is no such list: see [`record`](super::record).
pub const RECORD: &str = "record";
/// The notebooks'.
pub const NET: &str = "net";

/// Each network's name and layers: `c64` is a convolution 3×3 to 64 channels, batch norm and ReLU, `c64+` the same with a
/// bias; `m` a max-pool 2×2; `r64` a basic block of ResNet (He et al., 2016), `r64/2` one with stride 2; `a` the mean of each
/// channel; `l10` a linear layer, with a ReLU before each but the first.
pub const NETWORKS: [(&str, &str); 4] = [
    (NET, "c32+ m c64+ m c128+ m c256+ m l512 l128 l10"),
    ("resnet18", "c64 r64 r64 r128/2 r128 r256/2 r256 r512/2 r512 a l10"),
    ("vgg11", "c64+ m c128+ m c256+ c256+ m c512+ c512+ m c512+ c512+ m l10"),
    (RECORD, RECORD),
];

/// The layers of the network with this name.
pub fn layers_of(name: &str) -> &'static str {
    NETWORKS.iter().find(|(own, _)| *own == name).map_or("", |(_, layers)| layers)
}

/// A convolution with padding, batch norm, and what may follow.
#[derive(Clone, Copy)]
pub struct Conv {
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    bias: bool,
    relu: bool,
    pool: bool,
}

/// The layers of a contender.
pub trait Library: Copy + Send + Sync + 'static {
    fn conv(self, conv: Conv, vb: VarBuilder) -> Result<Sequential>;
    fn linear(self, inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Sequential>;
    fn relu(self, x: &Tensor) -> Result<Tensor>;
    fn add(self, x: &Tensor, y: &Tensor) -> Result<Tensor>;
    /// The mean of each channel, `[N, C]`.
    fn mean(self, x: &Tensor) -> Result<Tensor>;
    fn flatten(self, x: &Tensor) -> Result<Tensor>;

    /// The network of these layers, for pictures of 32×32.
    fn build(self, layers: &str, vb: &VarBuilder) -> Result<Sequential> {
        let mut net = Sequential::new();
        let (mut channels, mut side, mut linears) = (3, 32, 0);
        let words: Vec<&str> = layers.split_whitespace().collect();
        for (i, word) in words.iter().enumerate() {
            let vb = vb.pp(i);
            let (size, stride) = word[1..].split_once('/').map_or((&word[1..], 1), |(size, _)| (size, 2));
            let outputs: usize = size.trim_end_matches('+').parse().unwrap_or(channels);
            let conv = Conv { inputs: channels, outputs, kernel: 3, stride, bias: false, relu: true, pool: false };
            net = match word.as_bytes()[0] {
                b'c' => {
                    let pool = words.get(i + 1) == Some(&"m");
                    side /= if pool { 2 } else { 1 };
                    net.add(self.conv(Conv { bias: word.ends_with('+'), pool, ..conv }, vb)?)
                }
                // Belongs to the convolution before it.
                b'm' => net,
                b'r' => {
                    side /= stride;
                    net.add(BasicBlock::new(self, conv, &vb)?)
                }
                b'a' => {
                    side = 1;
                    net.add(move |x: &Tensor| self.mean(x))
                }
                _ => {
                    linears += 1;
                    let inputs = channels * if linears == 1 { side * side } else { 1 };
                    let net = if linears == 1 {
                        net.add(move |x: &Tensor| self.flatten(x))
                    } else {
                        net.add(move |x: &Tensor| self.relu(x))
                    };
                    net.add(self.linear(inputs, outputs, vb)?)
                }
            };
            channels = outputs;
        }
        Ok(net)
    }
}

/// Two convolutions beside an identity, or beside a convolution 1×1 where sizes change.
struct BasicBlock<L> {
    library: L,
    convs: Sequential,
    shortcut: Sequential,
}

impl<L: Library> BasicBlock<L> {
    fn new(library: L, first: Conv, vb: &VarBuilder) -> Result<Self> {
        let second = Conv { inputs: first.outputs, stride: 1, relu: false, ..first };
        let convs = Sequential::new().add(library.conv(first, vb.pp("0"))?).add(library.conv(second, vb.pp("1"))?);
        let mut shortcut = Sequential::new();
        if first.stride != 1 || first.inputs != first.outputs {
            shortcut = library.conv(Conv { kernel: 1, relu: false, ..first }, vb.pp("shortcut"))?;
        }
        Ok(Self { library, convs, shortcut })
    }
}

impl<L: Library> ModuleT for BasicBlock<L> {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let (y, x) = (self.convs.forward_t(x, train)?, self.shortcut.forward_t(x, train)?);
        self.library.relu(&self.library.add(&y, &x)?)
    }
}

/// This crate's.
#[derive(Clone, Copy)]
pub struct Ours {
    /// Whether convolution, batch norm and what may follow are one operation.
    pub fused: bool,
}

impl Library for Ours {
    fn conv(self, conv: Conv, vb: VarBuilder) -> Result<Sequential> {
        let Conv { inputs, outputs, kernel, stride, .. } = conv;
        let config = Conv2dConfig { padding: kernel / 2, stride, ..Default::default() };
        let new = if conv.bias { layers::conv2d } else { layers::conv2d_no_bias };
        let own = new(inputs, outputs, kernel, config, vb.pp("conv"))?;
        let norm = layers::batch_norm2d(outputs, BatchNormConfig::default(), vb.pp("norm"))?;
        if self.fused {
            let activation = if conv.relu { Activation::Relu } else { Activation::None };
            let pool = if conv.pool { BlockPool::Last } else { BlockPool::None };
            let config = ConvBlockConfig { activation, pool };
            return Ok(Sequential::new().add(ConvBlock::with_config(own, norm, config)));
        }
        let mut layers = Sequential::new().add(own).add(norm);
        if conv.relu {
            layers = layers.add(layers::Relu);
        }
        Ok(if conv.pool { layers.add(layers::MaxPool2d::new(2, 2)) } else { layers })
    }

    fn linear(self, inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Sequential> {
        Ok(Sequential::new().add(layers::linear(inputs, outputs, vb)?))
    }

    fn relu(self, x: &Tensor) -> Result<Tensor> {
        ops::relu(x)
    }

    fn add(self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        ops::add(x, y)
    }

    fn mean(self, x: &Tensor) -> Result<Tensor> {
        let (_, _, h, w) = x.dims4()?;
        ops::flatten(&ops::avg_pool2d(x, (h, w), 1)?)
    }

    fn flatten(self, x: &Tensor) -> Result<Tensor> {
        Flatten.forward_t(x, true)
    }
}

/// candle_nn's.
#[derive(Clone, Copy)]
pub struct Plain;

impl Library for Plain {
    fn conv(self, conv: Conv, vb: VarBuilder) -> Result<Sequential> {
        let Conv { inputs, outputs, kernel, stride, .. } = conv;
        let config = candle_nn::Conv2dConfig { padding: kernel / 2, stride, ..Default::default() };
        let new = if conv.bias { candle_nn::conv2d } else { candle_nn::conv2d_no_bias };
        let mut layers = Sequential::new()
            .add(new(inputs, outputs, kernel, config, vb.pp("conv"))?)
            .add(candle_nn::batch_norm(outputs, 1e-5, vb.pp("norm"))?);
        if conv.relu {
            layers = layers.add(Tensor::relu);
        }
        Ok(if conv.pool { layers.add(|x: &Tensor| x.max_pool2d(2)) } else { layers })
    }

    fn linear(self, inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Sequential> {
        Ok(Sequential::new().add(candle_nn::linear(inputs, outputs, vb)?))
    }

    fn relu(self, x: &Tensor) -> Result<Tensor> {
        x.relu()
    }

    fn add(self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        x + y
    }

    fn mean(self, x: &Tensor) -> Result<Tensor> {
        x.mean((2, 3))
    }

    fn flatten(self, x: &Tensor) -> Result<Tensor> {
        x.flatten_from(1)
    }
}
