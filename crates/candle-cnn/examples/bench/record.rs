//! The network of the CIFAR-10 record (Jordan's `airbench94_muon`) and its optimizer; `cifar-lab` has it for use.

use candle_cnn::layers::{
    Activation, BatchNormConfig, BlockPool, Conv2d, Conv2dConfig, ConvBlock, ConvBlockConfig, Gelu,
};
use candle_cnn::layers::{batch_norm2d, conv2d, conv2d_dirac};
use candle_cnn::ops::{self, CrossEntropyConfig, Reduction};
use candle_cnn::optim::{Muon, MuonConfig, MuonScaling, ParameterGroup, SgdConfig};
use candle_cnn::parameters::Parameters;
use candle_core::{Device, Result, Tensor};
use candle_nn::{Module, ModuleT, Optimizer, VarBuilder};

use super::{Contender, read_on_the_cpu};

const CHANNELS: [usize; 4] = [24, 64, 256, 256];

/// Convolution, max-pool, batch norm, GELU; convolution, batch norm, GELU.
fn group(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<[ConvBlock; 2]> {
    let same = Conv2dConfig { padding: 1, ..Default::default() };
    let config = BatchNormConfig { eps: 1e-12, momentum: 0.4, weight: false, bias: true };
    let block = |inputs: usize, pool: BlockPool, vb: VarBuilder| -> Result<ConvBlock> {
        let conv = conv2d_dirac(inputs, outputs, 3, same, vb.pp("conv"))?;
        let norm = batch_norm2d(outputs, config, vb.pp("norm"))?;
        Ok(ConvBlock::with_config(conv, norm, ConvBlockConfig { activation: Activation::Gelu(Gelu::Erf), pool }))
    };
    Ok([block(inputs, BlockPool::BeforeNorm, vb.pp(1))?, block(outputs, BlockPool::None, vb.pp(2))?])
}

pub struct Record {
    whiten: Conv2d,
    blocks: Vec<ConvBlock>,
    head: Tensor,
    optimizer: Muon,
}

impl Record {
    pub fn new(device: &Device) -> Result<Self> {
        let parameters = Parameters::new(0);
        let vb = parameters.var_builder(device);
        let whiten = conv2d(3, CHANNELS[0], 2, Conv2dConfig::default(), vb.pp("whiten"))?;
        let groups = (0..3).map(|i| group(CHANNELS[i], CHANNELS[i + 1], vb.pp(i)));
        let blocks = groups.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        let head = vb.get((10, CHANNELS[3]), "head")?;
        let (mut filters, mut others) = (Vec::new(), Vec::new());
        for (name, var) in parameters.named() {
            match var.rank() {
                4 if name != "whiten.weight" => filters.push(var),
                _ if name.ends_with("bias") || name == "head" => others.push(var),
                _ => {}
            }
        }
        let scaling = MuonScaling::Weights;
        let muon = MuonConfig { learning_rate: 0.24, momentum: 0.6, steps: 3, scaling, ..Default::default() };
        let sgd = SgdConfig { learning_rate: 1e-4, momentum: 0.85, nesterov: true, ..Default::default() };
        let filters = ParameterGroup { vars: filters, config: muon };
        let optimizer = Muon::with_sgd(vec![filters], vec![ParameterGroup { vars: others, config: sgd }])?;
        Ok(Self { whiten, blocks, head, optimizer })
    }

    fn forward(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        let filters = self.whiten.weight().detach();
        let mut x = Gelu::Erf.forward(&ops::conv2d(images, &filters, self.whiten.bias(), self.whiten.config())?)?;
        for block in &self.blocks {
            x = block.forward_t(&x, train)?;
        }
        let x = ops::flatten(&ops::max_pool2d(&x, 3, 3)?)?;
        ops::scale(&ops::linear(&x, &self.head, None)?, 1.0 / CHANNELS[3] as f64)
    }
}

impl Contender for Record {
    fn train(&mut self, images: &Tensor, labels: &Tensor) -> Result<()> {
        let config = CrossEntropyConfig { label_smoothing: 0.2, reduction: Reduction::Sum };
        let loss = ops::cross_entropy_with(&self.forward(images, true)?, labels, config)?;
        self.optimizer.backward_step(&loss)?;
        read_on_the_cpu(&loss)
    }

    fn infer(&self, images: &Tensor) -> Result<()> {
        self.forward(images, false).map(drop)
    }
}
