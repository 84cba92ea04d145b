//! What goes into a block, and the block by its separate operations.

use candle_core::{Result, Tensor, Var};

use crate::activation::relu;
use crate::autograd::graph::Gradients;
use crate::batch_norm2d::batch_norm2d;
use crate::batch_norm2d::running::RunningStatistics;
use crate::config::{BatchNormConfig, Conv2dConfig};
use crate::conv2d::conv2d;
use crate::pool2d::max_pool2d;

/// A convolution's parameters: see [`ops::conv2d`](crate::ops::conv2d).
#[derive(Debug, Clone, Copy)]
pub struct Convolution<'a> {
    /// `[O, C / groups, KH, KW]`.
    pub weight: &'a Tensor,
    /// `[O]`.
    pub bias: Option<&'a Tensor>,
    /// Padding, stride, dilation and groups.
    pub config: Conv2dConfig,
}

/// A batch norm's parameters: see [`ops::batch_norm2d`](crate::ops::batch_norm2d).
#[derive(Debug, Clone, Copy)]
pub struct Normalization<'a> {
    /// Running mean and variance.
    pub running: &'a RunningStatistics,
    /// Scale of each channel, `[O]`.
    pub weight: Option<&'a Tensor>,
    /// Shift of each channel, `[O]`.
    pub bias: Option<&'a Tensor>,
    /// eps and momentum.
    pub config: BatchNormConfig,
}

/// The same by the separate operations.
pub(super) fn separate(x: &Tensor, c: Convolution<'_>, n: Normalization<'_>, train: bool) -> Result<Tensor> {
    let y = conv2d(x, c.weight, c.bias, c.config)?;
    let y = batch_norm2d(&y, Some(n.running), n.weight, n.bias, n.config, train)?;
    max_pool2d(&relu(&y)?, 2, 2)
}

/// What a gradient may be wanted of, contiguous.
#[derive(Clone)]
pub(crate) struct BlockInputs {
    pub x: Tensor,
    pub weight: Tensor,
    pub bias: Option<Tensor>,
    pub gamma: Option<Tensor>,
    pub beta: Option<Tensor>,
    pub config: Conv2dConfig,
}

impl BlockInputs {
    pub(super) fn new(x: &Tensor, c: Convolution<'_>, n: Normalization<'_>) -> Result<Self> {
        let contiguous = |t: Option<&Tensor>| t.map(Tensor::contiguous).transpose();
        Ok(Self {
            x: x.contiguous()?,
            weight: c.weight.contiguous()?,
            bias: contiguous(c.bias)?,
            gamma: contiguous(n.weight)?,
            beta: contiguous(n.bias)?,
            config: c.config,
        })
    }

    /// In the order of the node's inputs.
    pub(crate) fn list(&self) -> Vec<&Tensor> {
        let mut list = vec![&self.x, &self.weight];
        list.extend([&self.bias, &self.gamma, &self.beta].into_iter().flatten());
        list
    }

    pub(super) fn tracked(&self) -> bool {
        self.list().iter().any(|input| input.track_op())
    }

    /// Gradients in inference mode are rare (Grad-CAM): nothing is kept for them, the separate operations run again.
    pub(crate) fn gradients_in_inference(
        &self,
        running: &RunningStatistics,
        config: BatchNormConfig,
        grad: &Tensor,
    ) -> Result<Gradients> {
        let vars = self.list().iter().map(|t| Var::from_tensor(&t.detach())).collect::<Result<Vec<_>>>()?;
        let mut rest = vars[2..].iter();
        let mut next = |present: bool| if present { rest.next().map(Var::as_tensor) } else { None };
        let bias = next(self.bias.is_some());
        let (weight, shift) = (next(self.gamma.is_some()), next(self.beta.is_some()));
        let convolution = Convolution { weight: &vars[1], bias, config: self.config };
        let normalization = Normalization { running, weight, bias: shift, config };
        let y = separate(&vars[0], convolution, normalization, false)?;
        let store = (y * grad)?.sum_all()?.backward()?;
        let wanted = self.list().into_iter().zip(&vars);
        Ok(wanted.map(|(input, var)| store.get(var).filter(|_| input.track_op()).cloned()).collect())
    }
}
