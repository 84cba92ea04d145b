//! Activations and their derivatives in vectors.

use crate::config::{Activation, Gelu};
use crate::simd::exp::exp;
use crate::simd::lanes::LANES;
use crate::simd::vector::{Simd, load, store};
use crate::simd::{Kernel, Whole};

/// Φ(x) = ½ erfc(−x / √2) = ½ t (a₁ + t (a₂ + …)) exp(−x²/2) with t = 1 / (1 + p |x| / √2) for x ≤ 0, and the rest of 1
/// above, within 8 · 10⁻⁸ (Abramowitz and Stegun, "Handbook of Mathematical Functions", 1964, 7.1.26).
const P_OVER_ROOT_2: f32 = 0.3275911 * std::f32::consts::FRAC_1_SQRT_2;
/// Half of a₅ to a₁.
const HALVES: [f32; 5] = [0.530_702_7, -0.726_576, 0.710_706_9, -0.142_248_37, 0.127_414_8];
/// 1 / √(2π).
const PEAK: f32 = 0.398_942_3;

/// √(2/π) and the cube's share in the form by the hyperbolic tangent.
const SLOPE: f32 = 0.797_884_6;
const CUBE: f32 = 0.044715;

/// GELU of x and its derivative.
#[inline(always)]
unsafe fn gelu<S: Simd>(x: S::V, form: Gelu) -> (S::V, S::V) {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let one = S::splat(1.0);
        let square = S::mul(x, x);
        match form {
            Gelu::Erf => {
                let size = S::select(S::not_positive(x), S::sub(S::zero(), x), x);
                let t = S::div(one, S::fma(size, S::splat(P_OVER_ROOT_2), one));
                let bell = exp::<S>(S::mul(square, S::splat(-0.5)));
                let mut sum = S::splat(HALVES[0]);
                for half in &HALVES[1..] {
                    sum = S::fma(sum, t, S::splat(*half));
                }
                let tail = S::mul(S::mul(sum, t), bell);
                let share = S::select(S::not_positive(x), tail, S::sub(one, tail));
                (S::mul(x, share), S::fma(S::mul(x, bell), S::splat(PEAK), share))
            }
            Gelu::Tanh => {
                // (1 + tanh u) / 2 = 1 / (1 + exp(−2u)), and what is missing to 1 is exp(−2u) of it.
                let u = S::mul(x, S::fma(square, S::splat(SLOPE * CUBE), S::splat(SLOPE)));
                let power = exp::<S>(S::mul(u, S::splat(-2.0)));
                let share = S::div(one, S::add(one, power));
                let du = S::fma(square, S::splat(6.0 * SLOPE * CUBE), S::splat(2.0 * SLOPE));
                let rise = S::mul(S::mul(share, S::mul(share, power)), S::mul(x, du));
                (S::mul(x, share), S::add(share, rise))
            }
        }
    }
}

/// An activation of x and its derivative.
///
/// # Safety
/// As [`Simd`]'s functions.
#[inline(always)]
pub(crate) unsafe fn activate<S: Simd>(x: S::V, activation: Activation) -> (S::V, S::V) {
    // SAFETY: the caller's promise.
    unsafe {
        match activation {
            Activation::Relu => {
                let dead = S::not_positive(x);
                (S::select(dead, S::zero(), x), S::select(dead, S::zero(), S::splat(1.0)))
            }
            Activation::Gelu(form) => gelu::<S>(x, form),
            Activation::None => (x, S::splat(1.0)),
        }
    }
}

/// GELU of `x` to `y`; with a gradient `dy`, dy times the derivative instead.
pub(super) struct Apply<'a> {
    pub x: &'a [f32],
    pub dy: Option<&'a [f32]>,
    pub form: Gelu,
    pub y: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    fn check(&self) {
        assert_eq!(self.x.len(), self.y.len());
        assert!(self.dy.is_none_or(|dy| dy.len() == self.x.len()));
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, dy, form, y } = self;
        let (len, x, y) = (x.len(), x.as_ptr(), y.as_mut_ptr());
        let dy = dy.map_or(std::ptr::null(), <[f32]>::as_ptr);
        let mut i = 0;
        while i < len {
            let count = LANES.min(len - i);
            // SAFETY: `x`, `y` and, unless it is null, `dy` have `len` values (`check`).
            unsafe {
                let (value, derivative) = gelu::<S>(load::<S>(x.add(i), count), form);
                let result = if dy.is_null() { value } else { S::mul(derivative, load::<S>(dy.add(i), count)) };
                store::<S>(y.add(i), result, count);
            }
            i += LANES;
        }
    }
}

// SAFETY: `check` asserts all that `run` reaches, and it writes to `y` alone.
unsafe impl Whole for Apply<'_> {}
