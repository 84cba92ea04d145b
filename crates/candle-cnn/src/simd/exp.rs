//! The exponential, for kernels.

use super::vector::Simd;

/// Below it eˣ is no normal number; above the other one infinite.
const LOWEST: f32 = -87.0;
const HIGHEST: f32 = 88.0;

/// 1.5 · 2²³: added to a number below 2²², it leaves no digit behind the point.
const ROUNDER: f32 = 12_582_912.0;

/// ln 2 in two parts; the first has so few digits that its product with a whole number is exact.
const LN_2: [f32; 2] = [355.0 / 512.0, -2.121_944_4e-4];

/// Of (eʳ − 1 − r) / r² for |r| ≤ ln 2 / 2, highest power first (Moshier's Cephes library, `expf`).
const COEFFICIENTS: [f32; 6] = [1.987_569_2e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1];

/// eˣ within two units in the last place; x is taken for −87 below it and for 88 above. NaN stays NaN.
///
/// # Safety
/// As [`Simd`]'s functions.
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let (lowest, highest) = (S::splat(LOWEST), S::splat(HIGHEST));
        let x = S::select(S::beats(lowest, x), lowest, x);
        let x = S::select(S::beats(S::sub(S::zero(), highest), S::sub(S::zero(), x)), highest, x);
        // x = n · ln 2 + r.
        let rounder = S::splat(ROUNDER);
        let n = S::sub(S::fma(x, S::splat(std::f32::consts::LOG2_E), rounder), rounder);
        let r = S::fma(n, S::splat(-LN_2[0]), x);
        let r = S::fma(n, S::splat(-LN_2[1]), r);
        let mut sum = S::splat(COEFFICIENTS[0]);
        for coefficient in &COEFFICIENTS[1..] {
            sum = S::fma(sum, r, S::splat(*coefficient));
        }
        let of_r = S::add(S::fma(S::mul(r, r), sum, r), S::splat(1.0));
        S::mul(of_r, S::power_of_two(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::lanes::LANES;
    use crate::simd::{Kernel, Whole};

    struct Exp<'a>(&'a mut [f32]);

    impl Kernel for Exp<'_> {
        fn check(&self) {
            assert_eq!(self.0.len(), LANES);
        }
        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            // SAFETY: sixteen values (`check`).
            unsafe { S::store(self.0.as_mut_ptr(), exp::<S>(S::load(self.0.as_ptr()))) }
        }
    }

    // SAFETY: `check` asserts all that `run` reaches, and it writes to its values alone.
    unsafe impl Whole for Exp<'_> {}

    #[test]
    fn it_is_the_exponential() {
        let every: Vec<f32> = (0..17_600).map(|i| -87.0 + i as f32 * 0.00994).collect();
        for chunk in every.chunks_exact(LANES) {
            let mut values = chunk.to_vec();
            Exp(&mut values).call();
            for (found, x) in values.iter().zip(chunk) {
                let wanted = f64::from(*x).exp();
                assert!((f64::from(*found) - wanted).abs() <= 2.4e-7 * wanted, "{x}: {found}, wanted {wanted}");
            }
        }
        let mut values = [f32::NAN; LANES];
        (values[1], values[2], values[3]) = (f32::NEG_INFINITY, f32::INFINITY, -0.0);
        Exp(&mut values).call();
        assert!(values[0].is_nan());
        assert!((0.0..2e-38).contains(&values[1]) && values[2] > 1e38 && values[3] == 1.0, "{values:?}");
    }
}
