//! Matrix products for linear layers, whose batches are too small for a general product to repack its arguments.

// Tiles are arrays in registers: loops over their indices are what the compiler unrolls and keeps there.
#![allow(clippy::needless_range_loop)]

use rayon::prelude::*;

use crate::simd::lanes::LANES;
use crate::simd::part::Part;
use crate::simd::vector::{Simd, load, store};
use crate::simd::{Kernel, extent, run};

/// Rows of both matrices in one tile of [`Dots`]: 4 × 4 sums, one vector each, are one transposition.
const SIDE: usize = 4;

/// y = x · weightᵀ + bias for `n` rows of `x` and `outputs` rows of `weight`, all of `inputs` values; y's rows lie `y_row`
/// apart.
struct Dots<'a> {
    x: &'a [f32],
    n: usize,
    weight: &'a [f32],
    outputs: usize,
    inputs: usize,
    bias: Option<&'a [f32]>,
    y: Part<'a>,
    y_row: usize,
}

impl Kernel for Dots<'_> {
    fn check(&self) {
        assert!(self.x.len() >= self.n * self.inputs && self.weight.len() >= self.outputs * self.inputs);
        assert!(self.bias.is_none_or(|bias| bias.len() >= self.outputs));
        assert!(self.n * self.outputs > 0 && self.y.len() >= extent(&[(self.n, self.y_row)], self.outputs));
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, n, weight, outputs, inputs, bias, y, y_row } = self;
        let (x, weight, y) = (x.as_ptr(), weight.as_ptr(), y.as_mut_ptr());
        // SAFETY: row numbers are cut to the last of `n` rows of `x` and of `outputs` rows of `weight`, each of `inputs`
        // values; `bias` has `outputs` values, and `y` as many in each of `n` rows (`check`).
        unsafe {
            let mut o = 0;
            while o < outputs {
                let w: [*const f32; SIDE] = std::array::from_fn(|i| weight.add((o + i).min(outputs - 1) * inputs));
                let mut r = 0;
                while r < n {
                    let x: [*const f32; SIDE] = std::array::from_fn(|i| x.add((r + i).min(n - 1) * inputs));
                    let mut sums = [S::zero(); SIDE * SIDE];
                    let mut k = 0;
                    while k + LANES <= inputs {
                        let w: [S::V; SIDE] = std::array::from_fn(|i| S::load(w[i].add(k)));
                        for i in 0..SIDE {
                            let x = S::load(x[i].add(k));
                            for j in 0..SIDE {
                                sums[i * SIDE + j] = S::fma(x, w[j], sums[i * SIDE + j]);
                            }
                        }
                        k += LANES;
                    }
                    if k < inputs {
                        let w: [S::V; SIDE] = std::array::from_fn(|i| load::<S>(w[i].add(k), inputs - k));
                        for i in 0..SIDE {
                            let x = load::<S>(x[i].add(k), inputs - k);
                            for j in 0..SIDE {
                                sums[i * SIDE + j] = S::fma(x, w[j], sums[i * SIDE + j]);
                            }
                        }
                    }
                    // Transposed, lane s of each vector belongs to sum s: fifteen additions make all sixteen sums.
                    let mut t = S::transpose(sums);
                    for width in [8, 4, 2, 1] {
                        for i in 0..width {
                            t[i] = S::add(t[i], t[i + width]);
                        }
                    }
                    let mut out = [0.0; SIDE * SIDE];
                    S::store(out.as_mut_ptr(), t[0]);
                    for i in 0..SIDE.min(n - r) {
                        for j in 0..SIDE.min(outputs - o) {
                            let bias = bias.map_or(0.0, |bias| *bias.as_ptr().add(o + j));
                            *y.add((r + i) * y_row + o + j) = out[i * SIDE + j] + bias;
                        }
                    }
                    r += SIDE;
                }
                o += SIDE;
            }
        }
    }
}

/// Rows of one tile of [`Outer`], two vectors each.
const ROWS: usize = 8;

/// c = a · b for `rows` rows of a, `columns` columns of b and `depth` products each. Element (i, k) of a lies at
/// `i * a_row + k * a_column`; rows of b and c lie `b_row` and `c_row` apart.
struct Outer<'a> {
    a: &'a [f32],
    a_row: usize,
    a_column: usize,
    rows: usize,
    depth: usize,
    b: &'a [f32],
    b_row: usize,
    c: Part<'a>,
    c_row: usize,
    columns: usize,
}

impl Kernel for Outer<'_> {
    fn check(&self) {
        let Self { rows, depth, columns, .. } = *self;
        assert!(rows * depth * columns > 0);
        assert!(self.a.len() >= extent(&[(rows, self.a_row), (depth, self.a_column)], 1));
        assert!(self.b.len() >= extent(&[(depth, self.b_row)], columns));
        assert!(self.c.len() >= extent(&[(rows, self.c_row)], columns));
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let mut column = 0;
        while column < self.columns {
            let left = self.columns - column;
            let wide = S::OUTPUTS == 2 && left >= 2 * LANES;
            let mut row = 0;
            while row < self.rows {
                // SAFETY: `row` is below `rows`, and `column` as far from `columns` as `left` says.
                unsafe {
                    if wide {
                        self.tile::<S, ROWS, 2>(row, column, LANES);
                    } else if S::OUTPUTS == 2 {
                        self.tile::<S, ROWS, 1>(row, column, left.min(LANES));
                    } else {
                        // Half as many registers: half as many rows. They are summed alike.
                        self.tile::<S, { ROWS / 2 }, 1>(row, column, left.min(LANES));
                    }
                }
                row += if S::OUTPUTS == 2 { ROWS } else { ROWS / 2 };
            }
            column += if wide { 2 * LANES } else { LANES };
        }
    }
}

impl Outer<'_> {
    /// `R` rows from `row` on, or what is left of them, of `NV` vectors from `column` on, or, if it is one, its first `count`
    /// values. Asks for what `check` asserts.
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const NV: usize>(&self, row: usize, column: usize, count: usize) {
        // SAFETY: `a` has `depth` values in each of `rows` rows, `b` and `c` have `count` or NV vectors from `column` on in
        // each of `depth` and `rows` rows. Rows that do not exist repeat the last one and are not stored.
        unsafe {
            let (a, b) = (self.a.as_ptr().add(row * self.a_row), self.b.as_ptr().add(column));
            let c = self.c.as_mut_ptr().add(row * self.c_row + column);
            let rows = self.rows - row;
            let mut sums = [[S::zero(); NV]; R];
            let a_rows: [*const f32; R] = std::array::from_fn(|i| a.add(i.min(rows - 1) * self.a_row));
            for k in 0..self.depth {
                let b: [S::V; NV] = std::array::from_fn(|v| {
                    let p = b.add(k * self.b_row + v * LANES);
                    if NV > 1 { S::load(p) } else { load::<S>(p, count) }
                });
                for i in 0..R {
                    let value = S::splat(*a_rows[i].add(k * self.a_column));
                    for v in 0..NV {
                        sums[i][v] = S::fma(value, b[v], sums[i][v]);
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate().take(rows) {
                for (v, &sum) in sums.iter().enumerate() {
                    store::<S>(c.add(i * self.c_row + v * LANES), sum, if NV > 1 { LANES } else { count });
                }
            }
        }
    }
}

/// Outputs, inputs or rows of a weight that one task computes: a multiple of all tiles.
const BLOCK: usize = 64;

/// x · weightᵀ + bias: `x` `[n, inputs]`, `weight` `[outputs, inputs]`, gives `[n, outputs]`.
pub(super) fn forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, n: usize, inputs: usize, y: &mut [f32]) {
    let outputs = weight.len() / inputs;
    assert!(x.len() == n * inputs && weight.len() == outputs * inputs && y.len() == n * outputs);
    assert!(bias.is_none_or(|bias| bias.len() == outputs));
    let y = Part::new(y);
    weight.par_chunks(BLOCK * inputs).enumerate().for_each(|(i, weight)| {
        let first = i * BLOCK;
        let (bias, y, y_row) = (bias.map(|bias| &bias[first..]), y.from(first), outputs);
        let kernel = Dots { x, n, weight, outputs: weight.len() / inputs, inputs, bias, y, y_row };
        // SAFETY: the assertions above; each task writes to columns of its own.
        unsafe { run(kernel) }
    });
}

/// dy · weight: the gradient of x, `[n, inputs]`.
pub(super) fn input_gradient(dy: &[f32], weight: &[f32], n: usize, inputs: usize, dx: &mut [f32]) {
    let outputs = weight.len() / inputs;
    assert!(dy.len() == n * outputs && weight.len() == outputs * inputs && dx.len() == n * inputs);
    let dx = Part::new(dx);
    (0..inputs.div_ceil(BLOCK)).into_par_iter().for_each(|i| {
        let (first, columns) = (i * BLOCK, BLOCK.min(inputs - i * BLOCK));
        let kernel = Outer {
            a: dy,
            a_row: outputs,
            a_column: 1,
            rows: n,
            depth: outputs,
            b: &weight[first..],
            b_row: inputs,
            c: dx.from(first),
            c_row: inputs,
            columns,
        };
        // SAFETY: the assertions above; each task writes to columns of its own.
        unsafe { run(kernel) }
    });
}

/// dyᵀ · x: the gradient of the weight, `[outputs, inputs]`.
pub(super) fn weight_gradient(dy: &[f32], x: &[f32], n: usize, inputs: usize, dw: &mut [f32]) {
    let outputs = dw.len() / inputs;
    assert!(dy.len() == n * outputs && x.len() == n * inputs && dw.len() == outputs * inputs);
    dw.par_chunks_mut(BLOCK * inputs).enumerate().for_each(|(i, dw)| {
        let kernel = Outer {
            a: &dy[i * BLOCK..],
            a_row: 1,
            a_column: outputs,
            rows: dw.len() / inputs,
            depth: n,
            b: x,
            b_row: inputs,
            c: Part::new(dw),
            c_row: inputs,
            columns: inputs,
        };
        // SAFETY: the assertions above; each task has rows of its own.
        unsafe { run(kernel) }
    });
}
