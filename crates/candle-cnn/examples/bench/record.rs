//! The network of the CIFAR-10 record (Jordan's `airbench94_muon`) and its optimizer; `cifar-lab` has it for use.

use candle_cnn::layers::{BatchNorm2d, BatchNormConfig, Conv2d, Conv2dConfig, Gelu};
use candle_cnn::layers::{batch_norm2d, conv2d, conv2d_dirac};
use candle_cnn::ops::{self, CrossEntropyConfig, Reduction};
use candle_cnn::optim::{Muon, MuonConfig, MuonScaling, ParameterGroup, SgdConfig};
use candle_cnn::parameters::Parameters;
use candle_core::{Device, Result, Tensor};
use candle_nn::{Module, ModuleT, Optimizer, VarBuilder};

use super::{Contender, read_on_the_cpu};

const CHANNELS: [usize; 4] = [24, 64, 256, 256];

struct Group {
    convs: [Conv2d; 2],
    norms: [BatchNorm2d; 2],
}

impl Group {
    fn new(inputs: usize, outputs: usize, vb: &VarBuilder) -> Result<Self> {
        let same = Conv2dConfig { padding: 1, ..Default::default() };
        let config = BatchNormConfig { eps: 1e-12, momentum: 0.4, weight: false, bias: true };
        let norm = |name: &str| batch_norm2d(outputs, config, vb.pp(name));
        let convs = [
            conv2d_dirac(inputs, outputs, 3, same, vb.pp("conv1"))?,
            conv2d_dirac(outputs, outputs, 3, same, vb.pp("conv2"))?,
        ];
        Ok(Self { convs, norms: [norm("norm1")?, norm("norm2")?] })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let x = ops::max_pool2d(&self.convs[0].forward(x)?, 2, 2)?;
        let x = Gelu::Erf.forward(&self.norms[0].forward_t(&x, train)?)?;
        Gelu::Erf.forward(&self.norms[1].forward_t(&self.convs[1].forward(&x)?, train)?)
    }
}

pub struct Record {
    whiten: Conv2d,
    groups: Vec<Group>,
    head: Tensor,
    optimizer: Muon,
}

impl Record {
    pub fn new(device: &Device) -> Result<Self> {
        let parameters = Parameters::new(0);
        let vb = parameters.var_builder(device);
        let whiten = conv2d(3, CHANNELS[0], 2, Conv2dConfig::default(), vb.pp("whiten"))?;
        let groups = (0..3).map(|i| Group::new(CHANNELS[i], CHANNELS[i + 1], &vb.pp(i)));
        let groups = groups.collect::<Result<Vec<_>>>()?;
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
        Ok(Self { whiten, groups, head, optimizer })
    }

    fn forward(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        let filters = self.whiten.weight().detach();
        let mut x = Gelu::Erf.forward(&ops::conv2d(images, &filters, self.whiten.bias(), self.whiten.config())?)?;
        for group in &self.groups {
            x = group.forward(&x, train)?;
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
