//! Settings of the operations that have several optional ones; a single one is a function `…_with_…`.

use candle_core::Result;

use crate::check;

/// How the kernel moves over the image; the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conv2dConfig {
    /// Zeros added on each side, in pixels.
    pub padding: usize,
    /// The kernel's step, in pixels, at least 1.
    pub stride: usize,
    /// The distance between the kernel's taps, in pixels, at least 1.
    pub dilation: usize,
    /// Number of groups that input and output channels are split into, at least 1; each group sees only its own.
    pub groups: usize,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Self { padding: 0, stride: 1, dilation: 1, groups: 1 }
    }
}

impl Conv2dConfig {
    /// Rejects settings that fit no input.
    pub(crate) fn check(&self) -> Result<()> {
        check::positive("conv2d", "stride", self.stride)?;
        check::positive("conv2d", "dilation", self.dilation)?;
        check::positive("conv2d", "groups", self.groups)
    }

    /// Rejects channels that are not divisible by the groups.
    pub(crate) fn check_channels(&self, inputs: usize, outputs: usize) -> Result<()> {
        self.check()?;
        let holds = inputs.is_multiple_of(self.groups) && outputs.is_multiple_of(self.groups) && inputs * outputs > 0;
        let (found, wanted) =
            (format!("({inputs}, {outputs})"), format!("multiples of the number of groups, {}", self.groups));
        check::setting("conv2d", "(input channels, output channels)", found, holds, &wanted)
    }
}

/// The two forms of GELU, each of them a layer: [`ops::gelu`](crate::ops::gelu) and
/// [`ops::gelu_tanh`](crate::ops::gelu_tanh).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gelu {
    /// By the error function: exact.
    #[default]
    Erf,
    /// By the hyperbolic tangent: an approximation.
    Tanh,
}

/// The activation of a [`ConvBlock`](crate::layers::ConvBlock).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// [`ops::relu`](crate::ops::relu).
    #[default]
    Relu,
    /// GELU in one of its forms.
    Gelu(Gelu),
    /// None, as before the sum of a residual block.
    None,
}

/// Where a [`ConvBlock`](crate::layers::ConvBlock) takes the maximum of each 2×2 window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BlockPool {
    /// Nowhere.
    None,
    /// Between the convolution and the batch norm.
    BeforeNorm,
    /// At the end.
    #[default]
    Last,
}

/// What a [`ConvBlock`](crate::layers::ConvBlock) does beside convolution and batch norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConvBlockConfig {
    /// The activation behind the batch norm.
    pub activation: Activation,
    /// The max-pool's place.
    pub pool: BlockPool,
}

/// What becomes of a batch's losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduction {
    /// Their mean.
    #[default]
    Mean,
    /// Their sum: the gradient then grows with the batch.
    Sum,
}

/// How a cross entropy is computed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CrossEntropyConfig {
    /// The share of the target that is spread evenly over all classes, from 0 to 1 (Szegedy et al., 2015).
    pub label_smoothing: f64,
    /// Mean or sum over the batch.
    pub reduction: Reduction,
}

/// How a batch is normalized.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormConfig {
    /// Added to the variance, at least 0.
    pub eps: f64,
    /// Weight of the new batch in the running statistics, from 0 to 1.
    pub momentum: f64,
    /// Whether the normalized values are scaled by a trained weight. (PyTorch's `affine` is both, weight and bias.)
    pub weight: bool,
    /// Whether they are shifted by a trained bias.
    pub bias: bool,
}

impl Default for BatchNormConfig {
    fn default() -> Self {
        Self { eps: 1e-5, momentum: 0.1, weight: true, bias: true }
    }
}

impl From<f64> for BatchNormConfig {
    fn from(eps: f64) -> Self {
        Self { eps, ..Default::default() }
    }
}

impl BatchNormConfig {
    pub(crate) fn check(&self) -> Result<()> {
        check::not_negative("batch_norm2d", "eps", self.eps)?;
        check::share("batch_norm2d", "momentum", self.momentum)
    }
}
