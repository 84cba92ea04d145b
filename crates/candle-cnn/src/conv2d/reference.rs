//! Convolution in any element type, by matrix products: what runs in `f64`.

use rayon::prelude::*;

use super::geometry::Geometry;
use crate::element::Element;
use crate::linear::matmul::{Matrix, matmul};

pub(super) fn backward<T: Element>(
    x: &[T],
    weight: &[T],
    grad: &[T],
    g: &Geometry,
    wanted: [bool; 2],
) -> [Option<Vec<T>>; 2] {
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

pub(super) fn forward<T: Element>(x: &[T], weight: &[T], bias: Option<&[T]>, g: &Geometry) -> Vec<T> {
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
