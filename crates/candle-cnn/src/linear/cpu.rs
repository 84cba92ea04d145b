//! Matrix products for linear layers, whose batches are too small for a general product to repack its arguments.

// Tiles are arrays in registers: loops over their indices are what the compiler unrolls and keeps there.
#![allow(clippy::needless_range_loop, clippy::too_many_arguments)]

use rayon::prelude::*;

use crate::simd::dispatch;
use crate::simd::lanes::LANES;
use crate::simd::shared::Shared;
use crate::simd::vector::Simd;

/// Fewer than sixteen values, zeros behind them.
#[inline(always)]
unsafe fn load<S: Simd>(p: *const f32, count: usize) -> S::V {
    // SAFETY: the caller has `count` values behind `p`.
    unsafe {
        if count >= LANES {
            return S::load(p);
        }
        let mut values = [0.0; LANES];
        std::ptr::copy_nonoverlapping(p, values.as_mut_ptr(), count);
        S::load(values.as_ptr())
    }
}

#[inline(always)]
unsafe fn store<S: Simd>(p: *mut f32, v: S::V, count: usize) {
    // SAFETY: the caller has room for `count` values behind `p`.
    unsafe {
        if count >= LANES {
            return S::store(p, v);
        }
        let mut values = [0.0; LANES];
        S::store(values.as_mut_ptr(), v);
        std::ptr::copy_nonoverlapping(values.as_ptr(), p, count);
    }
}

/// Rows of both matrices in one tile of [`dots`]: 4 × 4 sums, one vector each, are one transposition.
const SIDE: usize = 4;

#[inline(always)]
unsafe fn dots_generic<S: Simd>(
    x: *const f32,
    n: usize,
    weight: *const f32,
    outputs: usize,
    inputs: usize,
    bias: *const f32,
    y: *mut f32,
    y_row: usize,
) {
    // SAFETY: the caller's promise below; row numbers are cut to the last row.
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
                        let bias = if bias.is_null() { 0.0 } else { *bias.add(o + j) };
                        *y.add((r + i) * y_row + o + j) = out[i * SIDE + j] + bias;
                    }
                }
                r += SIDE;
            }
            o += SIDE;
        }
    }
}

dispatch! {
    /// y = x · weightᵀ + bias for `n` rows of `x`, `outputs` rows of `weight`, both of `inputs` values.
    ///
    /// # Safety
    /// The matrices must exist, `bias` be null or have `outputs` values, `y` have room for `n` rows of `outputs` values
    /// that lie `y_row` apart.
    fn dots = dots_generic(
        x: *const f32, n: usize, weight: *const f32, outputs: usize, inputs: usize, bias: *const f32, y: *mut f32,
        y_row: usize,
    )
}

/// Rows of one tile of [`outer`], two vectors each.
const ROWS: usize = 8;

/// A matrix by its distances: element (i, k) lies at `i * row + k * column`.
#[derive(Clone, Copy)]
struct Strided {
    data: *const f32,
    row: usize,
    column: usize,
}

#[inline(always)]
unsafe fn outer_tile<S: Simd, const R: usize, const NV: usize>(
    a: &Strided,
    rows: usize,
    depth: usize,
    b: *const f32,
    b_row: usize,
    c: *mut f32,
    c_row: usize,
    count: usize,
) {
    // SAFETY: as `outer`.
    unsafe {
        let mut sums = [[S::zero(); NV]; R];
        // Rows that do not exist repeat the last one and are not stored.
        let a_rows: [*const f32; R] = std::array::from_fn(|i| a.data.add(i.min(rows - 1) * a.row));
        for k in 0..depth {
            let b: [S::V; NV] = std::array::from_fn(|v| {
                let p = b.add(k * b_row + v * LANES);
                if NV > 1 { S::load(p) } else { load::<S>(p, count) }
            });
            for i in 0..R {
                let value = S::splat(*a_rows[i].add(k * a.column));
                for v in 0..NV {
                    sums[i][v] = S::fma(value, b[v], sums[i][v]);
                }
            }
        }
        for (i, sums) in sums.iter().enumerate().take(rows) {
            for (v, &sum) in sums.iter().enumerate() {
                store::<S>(c.add(i * c_row + v * LANES), sum, if NV > 1 { LANES } else { count });
            }
        }
    }
}

#[inline(always)]
unsafe fn outer_generic<S: Simd>(
    a: &Strided,
    rows: usize,
    depth: usize,
    b: *const f32,
    b_row: usize,
    c: *mut f32,
    c_row: usize,
    columns: usize,
) {
    // SAFETY: the caller's promise below.
    unsafe {
        let mut column = 0;
        while column < columns {
            let left = columns - column;
            let wide = S::OUTPUTS == 2 && left >= 2 * LANES;
            let mut row = 0;
            while row < rows {
                let a = Strided { data: a.data.add(row * a.row), ..*a };
                let (b, c) = (b.add(column), c.add(row * c_row + column));
                if wide {
                    outer_tile::<S, ROWS, 2>(&a, rows - row, depth, b, b_row, c, c_row, LANES);
                } else if S::OUTPUTS == 2 {
                    outer_tile::<S, ROWS, 1>(&a, rows - row, depth, b, b_row, c, c_row, left.min(LANES));
                } else {
                    // Half as many registers: half as many rows. They are summed alike.
                    outer_tile::<S, { ROWS / 2 }, 1>(&a, rows - row, depth, b, b_row, c, c_row, left.min(LANES));
                }
                row += if S::OUTPUTS == 2 { ROWS } else { ROWS / 2 };
            }
            column += if wide { 2 * LANES } else { LANES };
        }
    }
}

dispatch! {
    /// c = a · b for `rows` rows of `a`, `columns` columns of `b`, `depth` products each.
    ///
    /// # Safety
    /// All that the distances reach must exist, and `c` be this task's alone.
    fn outer = outer_generic(
        a: &Strided, rows: usize, depth: usize, b: *const f32, b_row: usize, c: *mut f32, c_row: usize,
        columns: usize,
    )
}

/// Outputs, inputs or rows of a weight that one task computes: a multiple of all tiles.
const BLOCK: usize = 64;

/// x · weightᵀ + bias: `x` `[n, inputs]`, `weight` `[outputs, inputs]`, gives `[n, outputs]`.
pub(crate) fn forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, n: usize, inputs: usize, y: &mut [f32]) {
    let outputs = weight.len() / inputs;
    assert!(x.len() == n * inputs && weight.len() == outputs * inputs && y.len() == n * outputs);
    assert!(bias.is_none_or(|bias| bias.len() == outputs));
    let shared = Shared::new(y.as_mut_ptr());
    weight.par_chunks(BLOCK * inputs).enumerate().for_each(|(i, weight)| {
        let first = i * BLOCK;
        let bias = bias.map_or(std::ptr::null(), |bias| bias[first..].as_ptr());
        // SAFETY: the assertions above; each task writes to columns of its own.
        unsafe {
            let y = shared.get().add(first);
            dots(x.as_ptr(), n, weight.as_ptr(), weight.len() / inputs, inputs, bias, y, outputs);
        }
    });
}

/// dy · weight: the gradient of x, `[n, inputs]`.
pub(crate) fn input_gradient(dy: &[f32], weight: &[f32], n: usize, inputs: usize, dx: &mut [f32]) {
    let outputs = weight.len() / inputs;
    assert!(dy.len() == n * outputs && weight.len() == outputs * inputs && dx.len() == n * inputs);
    let shared = Shared::new(dx.as_mut_ptr());
    (0..inputs.div_ceil(BLOCK)).into_par_iter().for_each(|i| {
        let (first, columns) = (i * BLOCK, BLOCK.min(inputs - i * BLOCK));
        let a = Strided { data: dy.as_ptr(), row: outputs, column: 1 };
        // SAFETY: the assertions above; each task writes to columns of its own.
        unsafe {
            outer(&a, n, outputs, weight[first..].as_ptr(), inputs, shared.get().add(first), inputs, columns);
        }
    });
}

/// dyᵀ · x: the gradient of the weight, `[outputs, inputs]`.
pub(crate) fn weight_gradient(dy: &[f32], x: &[f32], n: usize, inputs: usize, dw: &mut [f32]) {
    let outputs = dw.len() / inputs;
    assert!(dy.len() == n * outputs && x.len() == n * inputs && dw.len() == outputs * inputs);
    dw.par_chunks_mut(BLOCK * inputs).enumerate().for_each(|(i, dw)| {
        let a = Strided { data: dy[i * BLOCK..].as_ptr(), row: 1, column: outputs };
        // SAFETY: the assertions above; each task has rows of its own.
        unsafe { outer(&a, dw.len() / inputs, n, x.as_ptr(), inputs, dw.as_mut_ptr(), inputs, inputs) }
    });
}
