//! The sizes of a convolution, and how its pictures and gradients lie in memory.

use candle_core::{Result, Tensor};

use crate::check;
use crate::config::Conv2dConfig;
use crate::error::Error;
use crate::simd::lanes::LANES;

pub(super) const NAME: &str = "conv2d";

/// Larger paddings and dilations are typos: no image is that large.
const LONGEST_SIDE: usize = 1 << 16;

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
        config.check()?;
        if c % config.groups != 0 {
            let wanted = format!("a number of channels (dimension 1) divisible by {} groups", config.groups);
            return Err(check::shape(NAME, "the input", x, wanted));
        }
        let group = c / config.groups;
        let [o, kh, kw] = match *weight.dims() {
            [o, wc, kh, kw] if o * kh * kw > 0 && wc == group && o % config.groups == 0 => [o, kh, kw],
            _ => {
                let groups = config.groups;
                let wanted = format!(
                    "[O, {group}, KH, KW], each at least 1 and O divisible by {groups}, for {c} input channels in {groups} groups"
                );
                return Err(check::shape(NAME, "the weight", weight, wanted));
            }
        };
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
                    "an image that, with padding {}, is at least as large as the kernel's {} × {}",
                    config.padding,
                    extent(kh),
                    extent(kw)
                );
                Err(check::shape(NAME, "the input", x, wanted))
            }
        }
    }

    /// Input channels of one group.
    pub(super) fn group_inputs(&self) -> usize {
        self.c / self.config.groups
    }

    pub(super) fn group_outputs(&self) -> usize {
        self.o / self.config.groups
    }

    /// Weights of one output channel.
    pub(super) fn taps(&self) -> usize {
        self.group_inputs() * self.kh * self.kw
    }

    pub(super) fn pixels(&self) -> usize {
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
    pub(super) fn source(&self, output: usize, tap: usize, size: usize) -> Option<usize> {
        (output * self.config.stride + tap * self.config.dilation)
            .checked_sub(self.config.padding)
            .filter(|&input| input < size)
    }
}

/// Floats of one tap's weights between 16 input and 16 output channels.
pub(super) const SQUARE: usize = LANES * LANES;

/// Rows and columns of a tile of outputs: see [`winograd`](super::winograd).
pub(super) const TILE: usize = 4;

/// Sizes of one convolution of one group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub n: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub o: usize,
    pub kh: usize,
    pub kw: usize,
    pub oh: usize,
    pub ow: usize,
    pub stride: usize,
    pub dilation: usize,
    pub padding: usize,
}

/// How a picture lies in a padded buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    /// Channels.
    pub c: usize,
    /// Rows and columns of the buffer.
    pub rows: usize,
    pub columns: usize,
    /// The position of the picture's first pixel; negative if rows or columns of the picture are cut off.
    pub top: isize,
    pub left: isize,
    /// Floats per pixel: 16, or 4 where there are so few channels.
    pub pixel: usize,
}

impl Frame {
    /// Pictures of `c` channels without zeros around or between their pixels.
    pub(crate) fn dense(c: usize, rows: usize, columns: usize) -> Self {
        Self { c, rows, columns, top: 0, left: 0, pixel: LANES }
    }
    pub(crate) fn blocks(&self) -> usize {
        self.c.div_ceil(LANES)
    }
    /// Floats of one block of channels.
    pub(crate) fn block(&self) -> usize {
        (self.rows * self.columns * self.pixel).next_multiple_of(LANES)
    }
    /// Floats of one picture.
    pub(crate) fn picture(&self) -> usize {
        self.blocks() * self.block()
    }
}

impl Sizes {
    pub(crate) fn taps(&self) -> usize {
        self.kh * self.kw
    }
    pub(crate) fn pixels(&self) -> usize {
        self.oh * self.ow
    }
    pub(crate) fn input_blocks(&self) -> usize {
        self.c.div_ceil(LANES)
    }
    pub(crate) fn output_blocks(&self) -> usize {
        self.o.div_ceil(LANES)
    }
    /// Tiles of 4×4 pixels that cover the output, and how many of the input's cover it: see [`winograd`](super::winograd).
    pub(super) fn tiles(&self) -> usize {
        tiles(self.oh, self.ow)
    }
    pub(super) fn input_tiles(&self) -> usize {
        tiles(self.h, self.w)
    }
    /// Whether the forward pass and the weight's gradient are computed in such tiles, and whether the input's gradient is.
    pub(super) fn in_tiles(&self) -> bool {
        self.has_tiles() && tiles_pay(self.oh, self.ow)
    }
    pub(super) fn input_gradient_in_tiles(&self) -> bool {
        self.has_tiles() && tiles_pay(self.h, self.w)
    }
    fn has_tiles(&self) -> bool {
        (self.kh, self.kw, self.stride, self.dilation) == (3, 3, 1, 1) && self.c.min(self.o) >= LANES
    }
    /// The input as the forward pass and the weight's gradient read it.
    pub(crate) fn input_frame(&self) -> Frame {
        let whole = |side: usize| if self.in_tiles() { (side - 2).next_multiple_of(TILE) + 2 } else { side };
        Frame {
            c: self.c,
            rows: whole((self.oh - 1) * self.stride + self.dilation * (self.kh - 1) + 1),
            columns: whole((self.ow - 1) * self.stride + self.dilation * (self.kw - 1) + 1),
            top: self.padding as isize,
            left: self.padding as isize,
            pixel: if self.c <= 4 { 4 } else { LANES },
        }
    }
    /// The output's gradient as the input's gradient reads it.
    pub(crate) fn output_frame(&self) -> Frame {
        let whole =
            |side: usize| if self.input_gradient_in_tiles() { (side - 2).next_multiple_of(TILE) + 2 } else { side };
        let ((top, rows), (left, columns)) =
            (self.framed(self.h, self.oh, self.kh), self.framed(self.w, self.ow, self.kw));
        Frame { c: self.o, rows: whole(rows), columns: whole(columns), top, left, pixel: LANES }
    }
    /// Where the output's first row (or column) lies in that frame, and the frame's number of rows.
    fn framed(&self, input: usize, output: usize, kernel: usize) -> (isize, usize) {
        let reached = (0..self.stride.min(input)).flat_map(|phase| {
            let last = ((input - 1 - phase) / self.stride) as isize;
            self.taps_to(phase, kernel).into_iter().map(move |(_, ahead)| (ahead, last + ahead))
        });
        let first = reached.clone().map(|(first, _)| first).min().unwrap_or(0);
        let last = reached.map(|(_, last)| last).max().unwrap_or(0);
        // All of the gradient, unless the padding puts its first row out of reach; and as many rows as a phase has.
        let all = if first <= 0 { output as isize - first } else { 0 };
        (-first, all.max(last + 1 - first).max(input.div_ceil(self.stride) as isize) as usize)
    }
    /// The taps that lead to the inputs `phase`, `phase` + stride, … of one side, the last one first, and how far each input's
    /// output is ahead: input `phase` + stride · i takes the gradient of output i + `ahead` by that tap.
    fn taps_to(&self, phase: usize, kernel: usize) -> Vec<(usize, isize)> {
        let stride = self.stride as isize;
        let ahead = |tap: usize| (phase + self.padding) as isize - (tap * self.dilation) as isize;
        let taps = (0..kernel).rev().filter(|&tap| ahead(tap) % stride == 0);
        taps.map(|tap| (tap, ahead(tap) / stride)).collect()
    }
    /// The convolutions that together are the input's gradient: one where the stride is 1.
    pub(super) fn phases(&self) -> Vec<Phase> {
        let frame = self.output_frame();
        let mut phases = Vec::new();
        for row in 0..self.stride.min(self.h) {
            for column in 0..self.stride.min(self.w) {
                let (mut taps, mut offsets) = (Vec::new(), Vec::new());
                for (y, down) in self.taps_to(row, self.kh) {
                    for (x, right) in self.taps_to(column, self.kw) {
                        let (down, right) = ((down + frame.top) as usize, (right + frame.left) as usize);
                        taps.push(y * self.kw + x);
                        offsets.push((down * frame.columns + right) * frame.pixel);
                    }
                }
                let (rows, columns) = ((self.h - row).div_ceil(self.stride), (self.w - column).div_ceil(self.stride));
                phases.push(Phase { row, column, rows, columns, taps, offsets });
            }
        }
        phases
    }
    /// Blocks of sixteen values of all packed weights.
    pub(super) fn weight_lanes(&self) -> usize {
        self.output_blocks() * self.input_blocks() * self.taps() * LANES
    }
}

/// The inputs in every `stride`-th row and column from one pixel on, whose gradient is a convolution with some of the taps.
pub(super) struct Phase {
    /// The first pixel's.
    pub row: usize,
    pub column: usize,
    /// The number of them.
    pub rows: usize,
    pub columns: usize,
    pub taps: Vec<usize>,
    /// Where each tap finds the first pixel's gradient in the output's frame.
    pub offsets: Vec<usize>,
}

fn tiles(rows: usize, columns: usize) -> usize {
    rows.div_ceil(TILE) * columns.div_ceil(TILE)
}

/// Whether 36 products for each tile save at least a third of nine for each pixel, for the transforms take time too.
fn tiles_pay(rows: usize, columns: usize) -> bool {
    2 * 9 * rows * columns >= 3 * 36 * tiles(rows, columns)
}

/// How the output's gradient lies in memory, in floats, from its first pixel on.
#[derive(Clone, Copy)]
pub(crate) struct GradLayout {
    pub offset: usize,
    pub picture: usize,
    pub block: usize,
    pub row: usize,
}

impl GradLayout {
    /// As `sizes.output_frame()` lays it out. Only where no row or column of the gradient is left out of the frame.
    pub(crate) fn framed(sizes: &Sizes) -> Self {
        let frame = sizes.output_frame();
        Self {
            offset: (frame.top as usize * frame.columns + frame.left as usize) * LANES,
            picture: frame.picture(),
            block: frame.block(),
            row: frame.columns * LANES,
        }
    }
    /// Blocks without a frame.
    pub(crate) fn dense(sizes: &Sizes) -> Self {
        let block = sizes.pixels() * LANES;
        Self { offset: 0, picture: sizes.output_blocks() * block, block, row: sizes.ow * LANES }
    }
}

/// Offsets of a kernel's taps in a padded picture.
pub(crate) fn taps(kh: usize, kw: usize, dilation: usize, frame: &Frame) -> Vec<usize> {
    let at = |y: usize, x: usize| dilation * (y * frame.columns + x) * frame.pixel;
    (0..kh).flat_map(|y| (0..kw).map(move |x| at(y, x))).collect()
}
