//! Two-dimensional convolution (cross-correlation, as `torch.nn.functional.conv2d` defines it).

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::check::{self, Backend};
use super::lineage::{self, ConvCall, Lineage};
use super::matmul::{Matrix, matmul};
use crate::Error;
use crate::cpu::convolution::{self, Sizes};
use crate::cpu::in_pool;
use crate::element::{Element, tensor, values};
use crate::graph::{Gradients, node};

const NAME: &str = "conv2d";

/// Paddings and dilations beyond this are slips of the keyboard: larger than the sides of pictures are.
const LONGEST_SIDE: usize = 1 << 16;

/// How the kernel moves over the picture; the same in both directions.
///
/// ```
/// use candle_cnn::ops::Conv2dConfig;
/// let same_size = Conv2dConfig { padding: 1, ..Default::default() };
/// assert_eq!((same_size.stride, same_size.dilation, same_size.groups), (1, 1, 1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conv2dConfig {
    /// Zeros added on each side, in pixels.
    pub padding: usize,
    /// Step of the kernel, in pixels, at least 1.
    pub stride: usize,
    /// Distance of the kernel's taps, in pixels, at least 1.
    pub dilation: usize,
    /// Number of groups that input and output channels are split into, at least 1; each group sees only its own.
    pub groups: usize,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Self { padding: 0, stride: 1, dilation: 1, groups: 1 }
    }
}

impl From<candle_nn::Conv2dConfig> for Conv2dConfig {
    fn from(config: candle_nn::Conv2dConfig) -> Self {
        Self { padding: config.padding, stride: config.stride, dilation: config.dilation, groups: config.groups }
    }
}

/// All sizes of one convolution, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Geometry {
    pub n: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub o: usize,
    pub kh: usize,
    pub kw: usize,
    pub oh: usize,
    pub ow: usize,
    pub config: Conv2dConfig,
}

impl Geometry {
    pub(crate) fn new(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, config: Conv2dConfig) -> Result<Self> {
        let [n, c, h, w] = check::dims4(NAME, "the input", x)?;
        check::float(NAME, "the input", x)?;
        check::positive(NAME, "stride", config.stride)?;
        check::positive(NAME, "dilation", config.dilation)?;
        check::positive(NAME, "groups", config.groups)?;
        if c % config.groups != 0 {
            let wanted = format!("a number of channels (dimension 1) that {} groups divide", config.groups);
            return Err(check::shape(NAME, "the input", x, wanted));
        }
        let group = c / config.groups;
        let [o, wc, kh, kw] = match *weight.dims() {
            [o, wc, kh, kw] if o * kh * kw > 0 && wc == group && o % config.groups == 0 => [o, wc, kh, kw],
            _ => {
                let wanted = format!("[O, {group}, KH, KW] for {c} input channels in {} groups", config.groups);
                return Err(check::shape(NAME, "the weight", weight, wanted));
            }
        };
        debug_assert_eq!(wc, group);
        check::like(NAME, "the weight", weight, x)?;
        if let Some(bias) = bias {
            check::argument(NAME, "the bias", bias, &[o], x)?;
        }
        // Nothing overflows below where the settings are no larger than any picture's side.
        for (setting, found) in [("padding", config.padding), ("dilation", config.dilation)] {
            if found > LONGEST_SIDE {
                let (found, wanted) = (found.to_string(), format!("at most {LONGEST_SIDE}"));
                return Err(Error::Setting { operation: NAME, setting, found, wanted }.into());
            }
        }
        let extent = |kernel: usize| config.dilation * (kernel - 1) + 1;
        let size = |input: usize, kernel: usize| {
            (input + 2 * config.padding).checked_sub(extent(kernel)).map(|rest| rest / config.stride + 1)
        };
        match (size(h, kh), size(w, kw)) {
            (Some(oh), Some(ow)) => Ok(Self { n, c, h, w, o, kh, kw, oh, ow, config }),
            _ => {
                let wanted = format!(
                    "a picture that, with padding {}, is no smaller than the kernel's {} × {}",
                    config.padding,
                    extent(kh),
                    extent(kw)
                );
                Err(check::shape(NAME, "the input", x, wanted))
            }
        }
    }

    /// Input channels of one group.
    fn group_inputs(&self) -> usize {
        self.c / self.config.groups
    }

    fn group_outputs(&self) -> usize {
        self.o / self.config.groups
    }

    /// Rows of the im2col matrix of one group.
    fn taps(&self) -> usize {
        self.group_inputs() * self.kh * self.kw
    }

    fn pixels(&self) -> usize {
        self.oh * self.ow
    }

    /// The sizes of one group.
    pub(crate) fn sizes(&self) -> Sizes {
        let Self { n, h, w, kh, kw, oh, ow, config, .. } = *self;
        let Conv2dConfig { padding, stride, dilation, .. } = config;
        let (c, o) = (self.group_inputs(), self.group_outputs());
        Sizes { n, c, h, w, o, kh, kw, oh, ow, stride, dilation, padding }
    }

    /// Input coordinate of an output coordinate and a tap, where it lies inside the picture.
    fn source(&self, output: usize, tap: usize, size: usize) -> Option<usize> {
        (output * self.config.stride + tap * self.config.dilation)
            .checked_sub(self.config.padding)
            .filter(|&input| input < size)
    }
}

/// Convolves `x` `[N, C, H, W]` with `weight` `[O, C / groups, KH, KW]` and adds `bias` `[O]`; gives `[N, O, OH, OW]`
/// with OH = (H + 2 · padding − dilation · (KH − 1) − 1) / stride + 1, rounded down. As
/// `torch.nn.functional.conv2d`; differentiable in `x`, `weight` and `bias`.
///
/// ```
/// use candle_cnn::ops::{Conv2dConfig, conv2d};
/// use candle_core::{DType, Device, Tensor};
///
/// let x = Tensor::ones((1, 2, 4, 4), DType::F32, &Device::Cpu)?;
/// let weight = Tensor::ones((3, 2, 3, 3), DType::F32, &Device::Cpu)?;
/// let y = conv2d(&x, &weight, None, Conv2dConfig { padding: 1, ..Default::default() })?;
/// assert_eq!(y.dims(), [1, 3, 4, 4]);
/// // In a corner four of nine taps meet the picture, in two channels.
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?[0], 8.);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// Where shapes, types or devices do not fit, the kernel is larger than the padded picture, or a setting is 0.
pub fn conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, config: Conv2dConfig) -> Result<Tensor> {
    let geometry = Geometry::new(x, weight, bias, config)?;
    match check::backend(x) {
        Backend::CpuF32 => {
            let (x, weight) = (x.contiguous()?, weight.contiguous()?);
            let bias = bias.map(Tensor::contiguous).transpose()?;
            let y = on_cpu(&x, &weight, bias.as_ref(), geometry, blocked_forward, blocked_backward)?;
            let call = ConvCall { x, weight, bias, geometry, y: y.clone() };
            lineage::note(&y, Lineage::Conv(call));
            Ok(y)
        }
        Backend::CpuF64 => on_cpu::<f64>(x, weight, bias, geometry, forward, backward),
        #[cfg(feature = "cuda")]
        Backend::CudaF32 if crate::cuda::conv2d::serves(&geometry) => {
            crate::cuda::conv2d::conv2d(x, weight, bias, geometry)
        }
        _ => check::by_candle("conv2d", x, || {
            let y = x.conv2d(weight, config.padding, config.stride, config.dilation, config.groups)?;
            match bias {
                Some(bias) => y.broadcast_add(&bias.reshape((1, geometry.o, 1, 1))?),
                None => Ok(y),
            }
        }),
    }
}

type Forward<T> = fn(&[T], &[T], Option<&[T]>, &Geometry) -> Vec<T>;
/// Gradients of x and weight from x, weight and the output's gradient; each only where wanted.
type Backward<T> = fn(&[T], &[T], &[T], &Geometry, [bool; 2]) -> [Option<Vec<T>>; 2];

fn on_cpu<T: Element>(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    g: Geometry,
    forward: Forward<T>,
    backward: Backward<T>,
) -> Result<Tensor> {
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let output = {
        let bias = bias.as_ref().map(values::<T>).transpose()?;
        forward(&values::<T>(&x)?, &values::<T>(&weight)?, bias.as_deref(), &g)
    };
    let mut inputs = vec![&x, &weight];
    inputs.extend(&bias);
    let tracked: Vec<bool> = inputs.iter().map(|input| input.track_op()).collect();
    let (saved_x, saved_weight) = (x.clone(), weight.clone());
    let backward = move |grad: &Tensor| -> Result<Gradients> {
        let (grad, x, weight) = (values::<T>(grad)?, values::<T>(&saved_x)?, values::<T>(&saved_weight)?);
        let [dx, dw] = backward(&x, &weight, &grad, &g, [tracked[0], tracked[1]]);
        let mut gradients = vec![
            dx.map(|dx| tensor(dx, &[g.n, g.c, g.h, g.w])).transpose()?,
            dw.map(|dw| tensor(dw, &[g.o, g.group_inputs(), g.kh, g.kw])).transpose()?,
        ];
        if let Some(&tracked) = tracked.get(2) {
            gradients.push(tracked.then(|| tensor(bias_gradient(&grad, &g), &[g.o])).transpose()?);
        }
        Ok(gradients)
    };
    node(NAME, &inputs, output, &[g.n, g.o, g.oh, g.ow], backward)
}

fn blocked_forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, g: &Geometry) -> Vec<f32> {
    let mut y = vec![0.0; g.n * g.o * g.pixels()];
    in_pool(|| convolution::forward(x, weight, bias, g.config.groups, &g.sizes(), &mut y));
    y
}

fn blocked_backward(x: &[f32], weight: &[f32], grad: &[f32], g: &Geometry, wanted: [bool; 2]) -> [Option<Vec<f32>>; 2] {
    let [mut dx, mut dw] = [(wanted[0], x.len()), (wanted[1], weight.len())].map(|(w, n)| w.then(|| vec![0.0; n]));
    in_pool(|| {
        let (dx, dw) = (dx.as_deref_mut(), dw.as_deref_mut());
        convolution::backward(x, weight, grad, g.config.groups, &g.sizes(), dx, dw)
    });
    [dx, dw]
}

fn backward<T: Element>(x: &[T], weight: &[T], grad: &[T], g: &Geometry, wanted: [bool; 2]) -> [Option<Vec<T>>; 2] {
    [wanted[0].then(|| input_gradient(grad, weight, g)), wanted[1].then(|| weight_gradient(grad, x, g))]
}

/// Spreads one group of one picture `[C / groups, H, W]` out so that column p holds what output pixel p sees.
fn im2col<T: Element>(x: &[T], columns: &mut [T], g: &Geometry) {
    let (plane, pixels) = (g.h * g.w, g.pixels());
    for (tap, row) in columns.chunks_exact_mut(pixels).enumerate() {
        let (c, ky, kx) = (tap / (g.kh * g.kw), tap / g.kw % g.kh, tap % g.kw);
        for (oy, row) in row.chunks_exact_mut(g.ow).enumerate() {
            let Some(y) = g.source(oy, ky, g.h) else {
                row.fill(T::zero());
                continue;
            };
            let line = &x[c * plane + y * g.w..][..g.w];
            for (ox, value) in row.iter_mut().enumerate() {
                *value = g.source(ox, kx, g.w).map_or(T::zero(), |x| line[x]);
            }
        }
    }
}

/// Adds each column back to the pixels that it came from.
fn col2im<T: Element>(columns: &[T], x: &mut [T], g: &Geometry) {
    let (plane, pixels) = (g.h * g.w, g.pixels());
    for (tap, row) in columns.chunks_exact(pixels).enumerate() {
        let (c, ky, kx) = (tap / (g.kh * g.kw), tap / g.kw % g.kh, tap % g.kw);
        for (oy, row) in row.chunks_exact(g.ow).enumerate() {
            let Some(y) = g.source(oy, ky, g.h) else { continue };
            let line = &mut x[c * plane + y * g.w..][..g.w];
            for (ox, &value) in row.iter().enumerate() {
                if let Some(x) = g.source(ox, kx, g.w) {
                    line[x] += value;
                }
            }
        }
    }
}

fn forward<T: Element>(x: &[T], weight: &[T], bias: Option<&[T]>, g: &Geometry) -> Vec<T> {
    let (taps, pixels, outputs) = (g.taps(), g.pixels(), g.group_outputs());
    let inputs = g.group_inputs() * g.h * g.w;
    let mut y = vec![T::zero(); g.n * g.o * pixels];
    y.par_chunks_mut(g.o * pixels).zip(x.par_chunks(g.c * g.h * g.w)).for_each_init(
        || vec![T::zero(); taps * pixels],
        |columns, (y, x)| {
            for (group, y) in y.chunks_exact_mut(outputs * pixels).enumerate() {
                im2col(&x[group * inputs..][..inputs], columns, g);
                if let Some(bias) = bias {
                    let bias = &bias[group * outputs..][..outputs];
                    y.chunks_exact_mut(pixels).zip(bias).for_each(|(y, &bias)| y.fill(bias));
                }
                let weight = Matrix::new(&weight[group * outputs * taps..][..outputs * taps], outputs, taps, taps);
                matmul(weight, Matrix::new(columns, taps, pixels, pixels), y, pixels, bias.is_some());
            }
        },
    );
    y
}

fn input_gradient<T: Element>(grad: &[T], weight: &[T], g: &Geometry) -> Vec<T> {
    let (taps, pixels, outputs) = (g.taps(), g.pixels(), g.group_outputs());
    let inputs = g.group_inputs() * g.h * g.w;
    let mut dx = vec![T::zero(); g.n * g.c * g.h * g.w];
    dx.par_chunks_mut(g.c * g.h * g.w).zip(grad.par_chunks(g.o * pixels)).for_each_init(
        || vec![T::zero(); taps * pixels],
        |columns, (dx, grad)| {
            for (group, grad) in grad.chunks_exact(outputs * pixels).enumerate() {
                let weight = Matrix::new(&weight[group * outputs * taps..][..outputs * taps], outputs, taps, taps);
                matmul(weight.transposed(), Matrix::new(grad, outputs, pixels, pixels), columns, pixels, false);
                col2im(columns, &mut dx[group * inputs..][..inputs], g);
            }
        },
    );
    dx
}

/// Pictures are summed in this many runs at most, whose sums are then added in order: a number of its own, so that
/// the result does not depend on the number of threads.
const RUNS: usize = 8;

fn weight_gradient<T: Element>(grad: &[T], x: &[T], g: &Geometry) -> Vec<T> {
    let (taps, pixels, outputs) = (g.taps(), g.pixels(), g.group_outputs());
    let inputs = g.group_inputs() * g.h * g.w;
    let run = g.n.div_ceil(RUNS);
    let sums: Vec<Vec<T>> = grad
        .par_chunks(run * g.o * pixels)
        .zip(x.par_chunks(run * g.c * g.h * g.w))
        .map(|(grad, x)| {
            let mut columns = vec![T::zero(); taps * pixels];
            let mut sum = vec![T::zero(); g.o * taps];
            for (grad, x) in grad.chunks_exact(g.o * pixels).zip(x.chunks_exact(g.c * g.h * g.w)) {
                for (group, grad) in grad.chunks_exact(outputs * pixels).enumerate() {
                    im2col(&x[group * inputs..][..inputs], &mut columns, g);
                    let columns = Matrix::new(&columns, taps, pixels, pixels).transposed();
                    let sum = &mut sum[group * outputs * taps..][..outputs * taps];
                    matmul(Matrix::new(grad, outputs, pixels, pixels), columns, sum, taps, true);
                }
            }
            sum
        })
        .collect();
    let mut sums = sums.into_iter();
    let mut total = sums.next().unwrap_or_default();
    for sum in sums {
        total.iter_mut().zip(sum).for_each(|(total, sum)| *total += sum);
    }
    total
}

fn bias_gradient<T: Element>(grad: &[T], g: &Geometry) -> Vec<T> {
    let channel = |o| grad.chunks_exact(g.pixels()).skip(o).step_by(g.o).map(super::sums::sum).sum::<f64>();
    (0..g.o).into_par_iter().map(|o| T::from_f64(channel(o))).collect()
}

impl Conv2dConfig {
    /// Refuses what no input could be convolved with.
    pub(crate) fn check(&self) -> Result<()> {
        check::positive(NAME, "stride", self.stride)?;
        check::positive(NAME, "dilation", self.dilation)?;
        check::positive(NAME, "groups", self.groups)
    }

    /// Refuses channels that the groups do not divide.
    pub(crate) fn check_channels(&self, inputs: usize, outputs: usize) -> Result<()> {
        self.check()?;
        if !inputs.is_multiple_of(self.groups) || !outputs.is_multiple_of(self.groups) || inputs * outputs == 0 {
            return Err(Error::Setting {
                operation: NAME,
                setting: "(input channels, output channels)",
                found: format!("({inputs}, {outputs})"),
                wanted: format!("multiples of the number of groups, {}", self.groups),
            }
            .into());
        }
        Ok(())
    }
}
