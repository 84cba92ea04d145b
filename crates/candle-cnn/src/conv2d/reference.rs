//! Convolution by plain loops, in any element type: what runs in `f64`.

use rayon::prelude::*;

use super::geometry::Geometry;
use crate::element::Element;

/// Calls `f` for each product that output channel `o` of one picture consists of, with the places of its factors: of a pixel
/// in the picture `[C, H, W]`, of a weight in the channel's `[C / groups, KH, KW]`, and of the sum in `[OH, OW]`.
fn products(g: &Geometry, o: usize, mut f: impl FnMut(usize, usize, usize)) {
    let first = o / g.group_outputs() * g.group_inputs();
    for tap in 0..g.taps() {
        let (c, ky, kx) = (tap / (g.kh * g.kw), tap / g.kw % g.kh, tap % g.kw);
        for oy in 0..g.oh {
            let Some(y) = g.source(oy, ky, g.h) else { continue };
            for ox in 0..g.ow {
                if let Some(x) = g.source(ox, kx, g.w) {
                    f(((first + c) * g.h + y) * g.w + x, tap, oy * g.ow + ox);
                }
            }
        }
    }
}

pub(super) fn forward<T: Element>(x: &[T], weight: &[T], bias: Option<&[T]>, g: &Geometry) -> Vec<T> {
    let mut y = vec![T::zero(); g.n * g.o * g.pixels()];
    y.par_chunks_mut(g.pixels()).enumerate().for_each(|(plane, y)| {
        let (n, o) = (plane / g.o, plane % g.o);
        y.fill(bias.map_or(T::zero(), |bias| bias[o]));
        let (x, weight) = (&x[n * g.c * g.h * g.w..], &weight[o * g.taps()..]);
        products(g, o, |input, tap, output| y[output] += x[input] * weight[tap]);
    });
    y
}

/// Gradients of x and weight, each only where wanted.
pub(super) fn backward<T: Element>(
    x: &[T],
    weight: &[T],
    dy: &[T],
    g: &Geometry,
    wanted: [bool; 2],
) -> [Option<Vec<T>>; 2] {
    let (picture, pixels) = (g.c * g.h * g.w, g.pixels());
    let dx = wanted[0].then(|| {
        let mut dx = vec![T::zero(); x.len()];
        dx.par_chunks_mut(picture).enumerate().for_each(|(n, dx)| {
            for o in 0..g.o {
                let (dy, weight) = (&dy[(n * g.o + o) * pixels..], &weight[o * g.taps()..]);
                products(g, o, |input, tap, output| dx[input] += dy[output] * weight[tap]);
            }
        });
        dx
    });
    let dw = wanted[1].then(|| {
        let mut dw = vec![T::zero(); weight.len()];
        dw.par_chunks_mut(g.taps()).enumerate().for_each(|(o, dw)| {
            for n in 0..g.n {
                let (x, dy) = (&x[n * picture..], &dy[(n * g.o + o) * pixels..]);
                products(g, o, |input, tap, output| dw[tap] += x[input] * dy[output]);
            }
        });
        dw
    });
    [dx, dw]
}
