//! How each kernel of `kernels.cu` is launched: its name, its grid and its arguments. An address is a number, so the
//! same launches run on a GPU and, in `tests/kernels.rs`, on the CPU.

/// Threads of each block; `THREADS` in kernels.cu.
const THREADS: u32 = 256;
/// Blocks that a kernel with a thread for each value has at most: each thread takes several values then.
const MOST_BLOCKS: usize = 1 << 16;
/// Blocks that fill a GPU.
const ENOUGH_BLOCKS: usize = 1024;
/// Values that are worth a block of their own.
const WORTH_A_BLOCK: usize = 2048;
/// Parameters in one table; `ENTRIES` in optimizer.cu.
const ENTRIES: usize = 48;
/// Values of a parameter that one block takes; `CHUNK` in optimizer.cu.
const CHUNK: usize = 1024;
/// Settings of one parameter; `SETTINGS` in optimizer.cu.
pub const SETTINGS: usize = 8;

/// An address in the device's memory; 0 is none.
pub type Address = u64;

/// One launch of a kernel.
#[derive(Debug)]
pub struct Launch {
    pub kernel: &'static str,
    pub blocks: u32,
    pub threads: u32,
    pub arguments: Vec<Argument>,
}

/// An argument as the kernel's signature has it; integers are 64 bits wide throughout.
#[derive(Debug)]
pub enum Argument {
    Address(Address),
    Integer(i64),
    Float(f32),
    Double(f64),
    /// A structure of integers.
    Sizes(Vec<i64>),
    Table(Box<Table>),
}

/// One parameter of an optimizer's step; `Entry` in optimizer.cu.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Entry {
    pub parameter: Address,
    pub gradient: Address,
    pub first: Address,
    pub second: Address,
    pub length: i64,
    pub first_block: i32,
    pub flag: i32,
    pub settings: [f32; SETTINGS],
}

/// Parameters of an optimizer's step; `Table` in optimizer.cu.
#[derive(Debug, Clone)]
#[repr(C)]
pub struct Table {
    pub entries: i64,
    /// The settings, if they are not in the entries; otherwise 0.
    pub settings: Address,
    pub entry: [Entry; ENTRIES],
}

fn address(address: Address) -> Argument {
    Argument::Address(address)
}

fn integer(value: usize) -> Argument {
    Argument::Integer(value as i64)
}

fn sizes<const N: usize>(values: [usize; N]) -> Argument {
    Argument::Sizes(values.map(|value| value as i64).to_vec())
}

/// A thread for each of `count` values.
fn each(kernel: &'static str, count: usize, arguments: Vec<Argument>) -> Launch {
    let blocks = count.div_ceil(THREADS as usize).clamp(1, MOST_BLOCKS) as u32;
    Launch { kernel, blocks, threads: THREADS, arguments }
}

fn in_blocks(kernel: &'static str, blocks: usize, arguments: Vec<Argument>) -> Launch {
    // A grid has fewer than 2^31 blocks: `cross_entropy` looks to it, and other grids stay far below.
    debug_assert!(blocks <= i32::MAX as usize);
    Launch { kernel, blocks: blocks as u32, threads: THREADS, arguments }
}

/// Runs that the pictures of each channel are split into for its sums; `values` is a picture's in one channel.
pub fn runs(n: usize, channels: usize, values: usize) -> usize {
    let runs = (ENOUGH_BLOCKS / channels).min(n * values / WORTH_A_BLOCK).clamp(1, n);
    // The values of one run are counted in 32 bits.
    if n.div_ceil(runs) * values > i32::MAX as usize { n } else { runs }
}

/// y = relu(x).
pub fn relu_forward(x: Address, y: Address, count: usize) -> Launch {
    each("relu_forward", count, vec![address(x), address(y), integer(count)])
}

/// dx from dy.
pub fn relu_backward(x: Address, dy: Address, dx: Address, count: usize) -> Launch {
    each("relu_backward", count, vec![address(x), address(dy), address(dx), integer(count)])
}

/// y = gelu(x), exactly or by the hyperbolic tangent.
pub fn gelu_forward(x: Address, y: Address, count: usize, by_tanh: bool) -> Launch {
    each("gelu_forward", count, vec![address(x), address(y), integer(count), integer(by_tanh.into())])
}

/// dx from dy.
pub fn gelu_backward(x: Address, dy: Address, dx: Address, count: usize, by_tanh: bool) -> Launch {
    let arguments = vec![address(x), address(dy), address(dx), integer(count), integer(by_tanh.into())];
    each("gelu_backward", count, arguments)
}

/// y = x · factor.
pub fn scale(x: Address, y: Address, count: usize, factor: f32) -> Launch {
    each("scale", count, vec![address(x), address(y), integer(count), Argument::Float(factor)])
}

/// y += bias for y `[N, C, plane]`.
pub fn add_bias(y: Address, bias: Address, [n, c, plane]: [usize; 3]) -> Launch {
    let count = n * c * plane;
    each("add_bias", count, vec![address(y), address(bias), integer(count), integer(c), integer(plane)])
}

/// Sizes of a pooling: H, W, kernel, stride, OH, OW.
#[derive(Debug, Clone, Copy)]
pub struct Pooling {
    pub planes: usize,
    pub input: (usize, usize),
    pub kernel: (usize, usize),
    pub stride: (usize, usize),
    pub output: (usize, usize),
}

impl Pooling {
    fn arguments(&self, addresses: &[Address]) -> Vec<Argument> {
        let Self { planes, input, kernel, stride, output } = *self;
        let mut arguments: Vec<Argument> = addresses.iter().map(|&a| address(a)).collect();
        arguments.push(integer(planes));
        arguments.push(sizes([input.0, input.1, kernel.0, kernel.1, stride.0, stride.1, output.0, output.1]));
        arguments
    }

    fn inputs(&self) -> usize {
        self.planes * self.input.0 * self.input.1
    }

    fn outputs(&self) -> usize {
        self.planes * self.output.0 * self.output.1
    }

    /// `winners` (`i32`, may be 0) gets each maximum's place in its plane.
    pub fn max_forward(&self, x: Address, y: Address, winners: Address) -> Launch {
        each("max_pool_forward", self.outputs(), self.arguments(&[x, y, winners]))
    }

    pub fn max_backward(&self, dy: Address, winners: Address, dx: Address) -> Launch {
        each("max_pool_backward", self.inputs(), self.arguments(&[dy, winners, dx]))
    }

    pub fn avg_forward(&self, x: Address, y: Address) -> Launch {
        each("avg_pool_forward", self.outputs(), self.arguments(&[x, y]))
    }

    pub fn avg_backward(&self, dy: Address, dx: Address) -> Launch {
        each("avg_pool_backward", self.inputs(), self.arguments(&[dy, dx]))
    }
}

/// The channels of `[N, C, plane]`, each channel's pictures split into runs. Sums are two `f64` for each channel and
/// run; vectors have a value for each channel.
#[derive(Debug, Clone, Copy)]
pub struct Channels {
    pub n: usize,
    pub c: usize,
    pub plane: usize,
    pub runs: usize,
}

/// Vectors that normalize a channel: (x − mean) · inverse · gamma + beta; gamma and beta may be 0.
#[derive(Debug, Clone, Copy)]
pub struct Normalizer {
    pub mean: Address,
    pub inverse: Address,
    pub gamma: Address,
    pub beta: Address,
}

/// Running statistics, which may be 0: mean, variance, number of batches (`i64`), and what the mean is off by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Running {
    pub mean: Address,
    pub var: Address,
    pub batches: Address,
    pub bias: Address,
}

impl Channels {
    pub fn new(n: usize, c: usize, plane: usize) -> Self {
        Self { n, c, plane, runs: runs(n, c, plane) }
    }

    /// Number of `f64` in the sums.
    pub fn sums(&self) -> usize {
        2 * self.c * self.runs
    }

    fn count(&self) -> usize {
        self.n * self.c * self.plane
    }

    fn sizes(&self) -> [Argument; 4] {
        [self.n, self.c, self.plane, self.runs].map(integer)
    }

    fn share(&self) -> f32 {
        1.0 / (self.n * self.plane) as f32
    }

    pub fn moments(&self, x: Address, sums: Address) -> Launch {
        let mut arguments = vec![address(x), address(sums)];
        arguments.extend(self.sizes());
        in_blocks("batch_norm_moments", self.c * self.runs, arguments)
    }

    /// Writes the normalizer's mean and inverse, and the running statistics.
    pub fn statistics(
        &self,
        x: Address,
        sums: Address,
        normalizer: &Normalizer,
        running: Running,
        (eps, momentum): (f64, f64),
    ) -> Launch {
        let Running { mean, var, batches, bias } = running;
        let mut arguments: Vec<Argument> =
            [x, sums, normalizer.mean, normalizer.inverse, mean, var, batches, bias].map(address).into();
        arguments.extend(self.sizes());
        arguments.extend([Argument::Double(eps), Argument::Double(momentum)]);
        each("batch_norm_statistics", self.c, arguments)
    }

    /// inverse = 1 / √(var + eps).
    pub fn inverse(&self, var: Address, inverse: Address, eps: f64) -> Launch {
        let arguments = vec![address(var), address(inverse), integer(self.c), Argument::Double(eps)];
        each("batch_norm_inverse", self.c, arguments)
    }

    pub fn normalize(&self, x: Address, normalizer: &Normalizer, y: Address) -> Launch {
        let Normalizer { mean, inverse, gamma, beta } = *normalizer;
        let mut arguments: Vec<Argument> = [x, mean, inverse, gamma, beta, y].map(address).into();
        arguments.extend([self.count(), self.c, self.plane].map(integer));
        each("batch_norm_apply", self.count(), arguments)
    }

    /// Sums of dy and, where there is an x, of dy · (x − mean).
    pub fn gradient_sums(&self, dy: Address, x: Address, mean: Address, sums: Address) -> Launch {
        let mut arguments: Vec<Argument> = [dy, x, mean, sums].map(address).into();
        arguments.extend(self.sizes());
        in_blocks("channel_sums", self.c * self.runs, arguments)
    }

    /// The gradients of shift and, where there is an inverse, scale.
    pub fn gradients(&self, sums: Address, inverse: Address, dgamma: Address, dbeta: Address) -> Launch {
        let mut arguments: Vec<Argument> = [sums, inverse, dgamma, dbeta].map(address).into();
        arguments.extend([self.c, self.runs].map(integer));
        each("channel_gradients", self.c, arguments)
    }

    /// dx from dy, and from x's gradients of scale and shift where the statistics were the batch's own (`train`).
    pub fn backward(
        &self,
        (dy, x, dx): (Address, Address, Address),
        normalizer: &Normalizer,
        (dgamma, dbeta): (Address, Address),
        train: bool,
    ) -> Launch {
        let Normalizer { mean, inverse, gamma, .. } = *normalizer;
        let mut arguments: Vec<Argument> = [dy, x, mean, inverse, gamma, dgamma, dbeta, dx].map(address).into();
        arguments.extend([self.count(), self.c, self.plane].map(integer));
        arguments.push(Argument::Float(if train { self.share() } else { 0.0 }));
        each("batch_norm_backward", self.count(), arguments)
    }
}

/// Batch norm, ReLU and 2×2 max-pool of y `[N, C, rows, columns]`.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    pub n: usize,
    pub c: usize,
    pub rows: usize,
    pub columns: usize,
}

impl Block {
    /// Windows of one plane.
    pub fn windows(&self) -> usize {
        (self.rows / 2) * (self.columns / 2)
    }

    /// What the sums over windows run over.
    pub fn channels(&self) -> Channels {
        Channels::new(self.n, self.c, self.windows())
    }

    fn picture(&self) -> Argument {
        sizes([self.c, self.rows, self.columns, self.rows / 2, self.columns / 2])
    }

    /// `winners` (`u8`, may be 0) gets which pixel of each window is the maximum.
    pub fn forward(&self, y: Address, normalizer: &Normalizer, pooled: Address, winners: Address) -> Launch {
        let Normalizer { mean, inverse, gamma, beta } = *normalizer;
        let mut arguments: Vec<Argument> = [y, mean, inverse, gamma, beta, pooled, winners].map(address).into();
        arguments.extend([integer(self.n * self.c), self.picture()]);
        each("block_forward", self.n * self.c * self.windows(), arguments)
    }

    pub fn gradient_sums(
        &self,
        dpooled: Address,
        winners: Address,
        y: Address,
        mean: Address,
        sums: Address,
    ) -> Launch {
        let channels = self.channels();
        let mut arguments: Vec<Argument> = [dpooled, winners, y, mean, sums].map(address).into();
        arguments.extend([integer(self.n), integer(channels.runs), self.picture()]);
        in_blocks("block_gradient_sums", self.c * channels.runs, arguments)
    }

    pub fn backward(
        &self,
        (dpooled, winners): (Address, Address),
        y: Address,
        normalizer: &Normalizer,
        (dgamma, dbeta): (Address, Address),
        dy: Address,
    ) -> Launch {
        let Normalizer { mean, inverse, gamma, .. } = *normalizer;
        let pixels = self.rows * self.columns;
        let mut arguments: Vec<Argument> =
            [dpooled, winners, y, mean, inverse, gamma, dgamma, dbeta, dy].map(address).into();
        let share = 1.0 / (self.n * pixels) as f32;
        arguments.extend([integer(self.n * self.c), self.picture(), Argument::Float(share)]);
        each("block_backward", self.n * self.c * self.rows.div_ceil(2) * self.columns.div_ceil(2), arguments)
    }
}

/// Sizes of a convolution by matrix products.
#[derive(Debug, Clone, Copy)]
pub struct Columns {
    pub n: usize,
    pub c: usize,
    pub input: (usize, usize),
    pub kernel: (usize, usize),
    pub output: (usize, usize),
    pub stride: usize,
    pub dilation: usize,
    pub padding: usize,
}

impl Columns {
    /// Rows of the matrix of columns.
    pub fn taps(&self) -> usize {
        self.c * self.kernel.0 * self.kernel.1
    }

    /// Columns of all matrices.
    pub fn width(&self) -> usize {
        self.n * self.output.0 * self.output.1
    }

    fn geometry(&self) -> Argument {
        let Self { n, c, input, kernel, output, stride, dilation, padding } = *self;
        sizes([n, c, input.0, input.1, kernel.0, kernel.1, output.0, output.1, stride, dilation, padding])
    }

    pub fn im2col(&self, x: Address, columns: Address) -> Launch {
        each("im2col", self.c * self.width(), vec![address(x), address(columns), self.geometry()])
    }

    pub fn col2im(&self, columns: Address, dx: Address) -> Launch {
        let count = self.n * self.c * self.input.0 * self.input.1;
        each("col2im", count, vec![address(columns), address(dx), self.geometry()])
    }
}

/// matrix `[C, N · plane]` from x `[N, C, plane]`.
pub fn to_matrix(x: Address, matrix: Address, [n, c, plane]: [usize; 3]) -> Launch {
    let arguments = vec![address(x), address(matrix), integer(n), integer(c), integer(plane)];
    each("to_matrix", n * c * plane, arguments)
}

/// y `[N, C, plane]` from a matrix `[C, N · plane]`, plus bias (may be 0).
pub fn from_matrix(matrix: Address, bias: Address, y: Address, [n, c, plane]: [usize; 3]) -> Launch {
    let arguments = vec![address(matrix), address(bias), address(y), integer(n), integer(c), integer(plane)];
    each("from_matrix", n * c * plane, arguments)
}

/// Types of labels, by their number in cross_entropy.cu.
#[derive(Debug, Clone, Copy)]
pub enum Labels {
    U8,
    U32,
    I64,
}

/// Losses (`f64`) of n rows of logits of c classes, and the gradient of `share` times their sum.
pub fn cross_entropy_rows(
    logits: Address,
    (labels, kind): (Address, Labels),
    gradient: Address,
    losses: Address,
    [n, c]: [usize; 2],
    (smoothing, share): (f64, f64),
) -> Launch {
    let mut arguments: Vec<Argument> = [logits, labels, gradient, losses].map(address).into();
    arguments.extend([integer(c), Argument::Integer(kind as i64)]);
    arguments.extend([Argument::Double(smoothing), Argument::Double(share)]);
    in_blocks("cross_entropy_rows", n, arguments)
}

pub fn cross_entropy_total(losses: Address, loss: Address, n: usize, share: f64) -> Launch {
    in_blocks("cross_entropy_total", 1, vec![address(losses), address(loss), integer(n), Argument::Double(share)])
}

/// The number (`u32`) of n rows of logits of c classes whose largest is the label's.
pub fn count_correct(
    logits: Address,
    (labels, kind): (Address, Labels),
    correct: Address,
    [n, c]: [usize; 2],
) -> Launch {
    let mut arguments: Vec<Argument> = [logits, labels, correct].map(address).into();
    arguments.extend([integer(n), integer(c), Argument::Integer(kind as i64)]);
    in_blocks("count_correct", 1, arguments)
}

/// y `[batch, C, H, W]` out of stored pictures `[N, C, H, W]` (`u8`); then places (`i64` `[batch, 4]`) and table
/// (`[C, 256]`).
pub fn gather_images(from: [Address; 3], y: Address, batch: usize, [n, c, h, w]: [usize; 4]) -> Launch {
    let count = batch * c * h * w;
    let mut arguments: Vec<Argument> = from.map(address).into();
    arguments.push(address(y));
    arguments.extend([count, n, c, h, w].map(integer));
    each("gather_images", count, arguments)
}

/// y (bf16) from x.
pub fn to_bf16(x: Address, y: Address, count: usize) -> Launch {
    each("to_bf16", count, vec![address(x), address(y), integer(count)])
}

/// y from x (bf16); products by cuBLAS give `f32` by themselves, so cuDNN alone needs it.
#[cfg_attr(all(feature = "cuda", not(feature = "cudnn")), allow(dead_code))]
pub fn from_bf16(x: Address, y: Address, count: usize) -> Launch {
    each("from_bf16", count, vec![address(x), address(y), integer(count)])
}

/// scaled = gradient · the number at `scale`.
pub fn scale_by(gradient: Address, scale: Address, scaled: Address, count: usize) -> Launch {
    each("scale_by", count, vec![address(gradient), address(scale), address(scaled), integer(count)])
}

/// Tables of all entries, with their settings at `settings` where that isn't 0; and each table's number of blocks.
fn tables(entries: &[Entry], settings: Address) -> impl Iterator<Item = (Box<Table>, usize)> {
    entries.chunks(ENTRIES).enumerate().map(move |(number, entries)| {
        let begin = (number * ENTRIES * SETTINGS * size_of::<f32>()) as Address;
        let settings = if settings == 0 { 0 } else { settings + begin };
        let mut table = Table { entries: entries.len() as i64, settings, entry: [Entry::default(); ENTRIES] };
        let mut blocks = 0;
        for (place, entry) in table.entry.iter_mut().zip(entries) {
            *place = Entry { first_block: blocks, ..*entry };
            blocks += (entry.length as usize).div_ceil(CHUNK) as i32;
        }
        (Box::new(table), blocks as usize)
    })
}

/// A step of SGD or AdamW, by the kernel's name, for all entries: a launch for each table that they fill. The settings
/// are the entries' own, or, where `settings` isn't 0, what [`store_settings`] has put there.
pub fn step(kernel: &'static str, entries: &[Entry], settings: Address) -> Vec<Launch> {
    let launch = |(table, blocks)| in_blocks(kernel, blocks, vec![Argument::Table(table)]);
    tables(entries, settings).map(launch).collect()
}

/// Puts all entries' settings to `settings`, which has room for [`SETTINGS`] `f32` of each.
pub fn store_settings(entries: &[Entry], settings: Address) -> Vec<Launch> {
    let launch = |(table, _): (Box<Table>, usize)| {
        each("store_settings", table.entries as usize * SETTINGS, vec![Argument::Table(table)])
    };
    tables(entries, settings).map(launch).collect()
}

/// An entry's settings, zeros behind the last.
pub fn settings<const N: usize>(values: [f32; N]) -> [f32; SETTINGS] {
    let mut settings = [0.0; SETTINGS];
    settings[..N].copy_from_slice(&values);
    settings
}

/// SGD's entry; `buffer` is 0 without momentum. Values are rate, decay, momentum, the shares of the old buffer and of
/// the gradient.
pub fn sgd_entry(
    parameter: Address,
    gradient: Address,
    buffer: Address,
    length: usize,
    values: [f32; 5],
    nesterov: bool,
) -> Entry {
    Entry {
        parameter,
        gradient,
        first: buffer,
        second: 0,
        length: length as i64,
        first_block: 0,
        flag: nesterov.into(),
        settings: settings(values),
    }
}

/// AdamW's entry. Values are the kept share of the parameter, the step's size, the root of the second moment's
/// correction, eps, beta2, 1 − beta1 and 1 − beta2.
pub fn adamw_entry(
    parameter: Address,
    gradient: Address,
    moments: [Address; 2],
    length: usize,
    values: [f32; 7],
) -> Entry {
    Entry {
        parameter,
        gradient,
        first: moments[0],
        second: moments[1],
        length: length as i64,
        first_block: 0,
        flag: 0,
        settings: settings(values),
    }
}
