//! Vectors of sixteen `f32`.
//!
//! Every function is unsafe for one reason: it must only run where its instruction set exists, inside a function that
//! was compiled for it, as those in [`run`](super::run) are. Loads and stores also want sixteen values (or bytes) behind
//! their pointer; they need no alignment, though aligned ones are faster.

// Tiles are arrays in registers: loops over their indices are what the compiler unrolls and keeps there.
#![allow(clippy::needless_range_loop)]

use super::lanes::LANES;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

pub(crate) trait Simd: Copy {
    type V: Copy;
    type Mask: Copy;

    /// Registers of the tile that convolution computes at once: pixels per vector of output channels,
    const PIXELS: usize;
    /// vectors of output channels,
    const OUTPUTS: usize;
    /// and, for weight gradients, input channels per vector of output channels.
    const INPUTS: usize;

    unsafe fn zero() -> Self::V;
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// a · b + c, rounded once where there is an instruction for it.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// 2ⁿ for whole numbers n from −126 to 127; anything else is some number.
    unsafe fn power_of_two(n: Self::V) -> Self::V;
    /// Where a > b or a is NaN: where PyTorch's max-pool prefers a.
    unsafe fn beats(a: Self::V, b: Self::V) -> Self::Mask;
    /// Where a ≤ 0: where ReLU is 0.
    unsafe fn not_positive(a: Self::V) -> Self::Mask;
    unsafe fn equal(a: Self::V, b: Self::V) -> Self::Mask;
    unsafe fn select(mask: Self::Mask, yes: Self::V, no: Self::V) -> Self::V;
    /// The first `count` values, below sixteen, zeros behind them; nothing else is read.
    unsafe fn load_some(p: *const f32, count: usize) -> Self::V;
    /// Stores the first `count` values, below sixteen.
    unsafe fn store_some(p: *mut f32, v: Self::V, count: usize);
    /// Sixteen whole numbers from 0 to 127 as bytes.
    unsafe fn store_u8(p: *mut u8, v: Self::V);
    unsafe fn load_u8(p: *const u8) -> Self::V;
    /// Of 32 values in two vectors, those at even and those at odd places.
    unsafe fn deinterleave(a: Self::V, b: Self::V) -> (Self::V, Self::V);
    /// Sixteen vectors of sixteen as a matrix, transposed.
    unsafe fn transpose(rows: [Self::V; 16]) -> [Self::V; 16];
}

/// `count` values from `p` on, sixteen at most, zeros behind them.
///
/// # Safety
/// As [`Simd::load`], for `count` values.
#[inline(always)]
pub(crate) unsafe fn load<S: Simd>(p: *const f32, count: usize) -> S::V {
    // SAFETY: `count` values are behind `p`, sixteen where a whole vector is loaded.
    unsafe { if count >= LANES { S::load(p) } else { S::load_some(p, count) } }
}

/// Stores the first `count` values, sixteen at most.
///
/// # Safety
/// As [`Simd::store`], for `count` values.
#[inline(always)]
pub(crate) unsafe fn store<S: Simd>(p: *mut f32, v: S::V, count: usize) {
    // SAFETY: as in `load`.
    unsafe { if count >= LANES { S::store(p, v) } else { S::store_some(p, v, count) } }
}

/// Plain loops over arrays, which the compiler turns into what the target always has.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> [f32; 16] {
    let mut v = [0.0; 16];
    for (i, v) in v.iter_mut().enumerate() {
        *v = f(i);
    }
    v
}

impl Simd for Plain {
    type V = [f32; 16];
    type Mask = [bool; 16];
    // AArch64 has 32 registers of four lanes, SSE2 has 16.
    const PIXELS: usize = if cfg!(target_arch = "aarch64") { 6 } else { 3 };
    const OUTPUTS: usize = 1;
    const INPUTS: usize = if cfg!(target_arch = "aarch64") { 6 } else { 3 };

    #[inline(always)]
    unsafe fn zero() -> Self::V {
        [0.0; 16]
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 16]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        // SAFETY: the caller has sixteen values behind `p`.
        unsafe { p.cast::<[f32; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        // SAFETY: the caller has room for sixteen values behind `p`.
        unsafe { p.cast::<[f32; 16]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // Without an instruction, mul_add would be a call of the mathematical library for each value.
        if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
            each(|i| a[i].mul_add(b[i], c[i]))
        } else {
            each(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn power_of_two(n: Self::V) -> Self::V {
        each(|i| f32::from_bits(((n[i] as i32).wrapping_add(127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn beats(a: Self::V, b: Self::V) -> Self::Mask {
        std::array::from_fn(|i| a[i] > b[i] || a[i].is_nan())
    }
    #[inline(always)]
    unsafe fn not_positive(a: Self::V) -> Self::Mask {
        std::array::from_fn(|i| a[i] <= 0.0)
    }
    #[inline(always)]
    unsafe fn equal(a: Self::V, b: Self::V) -> Self::Mask {
        std::array::from_fn(|i| a[i] == b[i])
    }
    #[inline(always)]
    unsafe fn select(mask: Self::Mask, yes: Self::V, no: Self::V) -> Self::V {
        each(|i| if mask[i] { yes[i] } else { no[i] })
    }
    #[inline(always)]
    unsafe fn load_some(p: *const f32, count: usize) -> Self::V {
        let mut values = [0.0; LANES];
        // SAFETY: the caller has `count` values behind `p`, which are fewer than sixteen.
        unsafe { std::ptr::copy_nonoverlapping(p, values.as_mut_ptr(), count) };
        values
    }
    #[inline(always)]
    unsafe fn store_some(p: *mut f32, v: Self::V, count: usize) {
        // SAFETY: the caller has room for `count` values behind `p`, which are fewer than sixteen.
        unsafe { std::ptr::copy_nonoverlapping(v.as_ptr(), p, count) };
    }
    #[inline(always)]
    unsafe fn store_u8(p: *mut u8, v: Self::V) {
        // SAFETY: the caller has room for sixteen bytes behind `p`.
        unsafe { p.cast::<[u8; 16]>().write_unaligned(std::array::from_fn(|i| v[i] as u8)) }
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> Self::V {
        // SAFETY: the caller has sixteen bytes behind `p`.
        let bytes = unsafe { p.cast::<[u8; 16]>().read_unaligned() };
        each(|i| f32::from(bytes[i]))
    }
    #[inline(always)]
    unsafe fn deinterleave(a: Self::V, b: Self::V) -> (Self::V, Self::V) {
        let at = |i: usize| if i < 16 { a[i] } else { b[i - 16] };
        (each(|i| at(2 * i)), each(|i| at(2 * i + 1)))
    }
    #[inline(always)]
    unsafe fn transpose(rows: [Self::V; 16]) -> [Self::V; 16] {
        std::array::from_fn(|i| std::array::from_fn(|j| rows[j][i]))
    }
}

/// The methods of an instruction set: what an `unsafe fn` of the same name does.
#[cfg(target_arch = "x86_64")]
macro_rules! methods {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty { $($body:tt)* })*) => {$(
        #[inline(always)]
        unsafe fn $name($($argument: $type),*) -> $result {
            // SAFETY: the trait's contract: the instruction set exists, and sixteen values or bytes are behind a pointer.
            unsafe { $($body)* }
        }
    )*};
}

/// One register of AVX-512.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

#[cfg(target_arch = "x86_64")]
impl Simd for Avx512 {
    type V = __m512;
    type Mask = __mmask16;
    // 16 of 32 registers, and 10 loads for 16 multiply-adds, which take twice as long.
    const PIXELS: usize = 8;
    const OUTPUTS: usize = 2;
    const INPUTS: usize = 8;

    methods! {
        fn zero() -> __m512 {
            _mm512_setzero_ps()
        }
        fn splat(x: f32) -> __m512 {
            _mm512_set1_ps(x)
        }
        fn load(p: *const f32) -> __m512 {
            _mm512_loadu_ps(p)
        }
        fn store(p: *mut f32, v: __m512) -> () {
            _mm512_storeu_ps(p, v)
        }
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            _mm512_fmadd_ps(a, b, c)
        }
        fn add(a: __m512, b: __m512) -> __m512 {
            _mm512_add_ps(a, b)
        }
        fn sub(a: __m512, b: __m512) -> __m512 {
            _mm512_sub_ps(a, b)
        }
        fn mul(a: __m512, b: __m512) -> __m512 {
            _mm512_mul_ps(a, b)
        }
        fn div(a: __m512, b: __m512) -> __m512 {
            _mm512_div_ps(a, b)
        }
        fn power_of_two(n: __m512) -> __m512 {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
        fn beats(a: __m512, b: __m512) -> __mmask16 {
            _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a)
        }
        fn not_positive(a: __m512) -> __mmask16 {
            _mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, _mm512_setzero_ps())
        }
        fn equal(a: __m512, b: __m512) -> __mmask16 {
            _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b)
        }
        fn select(mask: __mmask16, yes: __m512, no: __m512) -> __m512 {
            _mm512_mask_blend_ps(mask, no, yes)
        }
        fn load_some(p: *const f32, count: usize) -> __m512 {
            _mm512_maskz_loadu_ps((1u16 << count) - 1, p)
        }
        fn store_some(p: *mut f32, v: __m512, count: usize) -> () {
            _mm512_mask_storeu_ps(p, (1u16 << count) - 1, v)
        }
        fn store_u8(p: *mut u8, v: __m512) -> () {
            _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(v)))
        }
        fn load_u8(p: *const u8) -> __m512 {
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())))
        }
        fn deinterleave(a: __m512, b: __m512) -> (__m512, __m512) {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
            (_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b))
        }
        fn transpose(r: [__m512; 16]) -> [__m512; 16] {
            // In four rounds: pairs of values, of pairs, of quarters, of halves.
            let z = _mm512_setzero_ps();
            let mut t = [z; 16];
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            let mut u = [z; 16];
            for i in 0..4 {
                let b = 4 * i;
                u[b] = _mm512_shuffle_ps::<0x44>(t[b], t[b + 2]);
                u[b + 1] = _mm512_shuffle_ps::<0xee>(t[b], t[b + 2]);
                u[b + 2] = _mm512_shuffle_ps::<0x44>(t[b + 1], t[b + 3]);
                u[b + 3] = _mm512_shuffle_ps::<0xee>(t[b + 1], t[b + 3]);
            }
            let mut s = [z; 16];
            for i in 0..4 {
                s[i] = _mm512_shuffle_f32x4::<0x88>(u[i], u[i + 4]);
                s[i + 4] = _mm512_shuffle_f32x4::<0xdd>(u[i], u[i + 4]);
                s[i + 8] = _mm512_shuffle_f32x4::<0x88>(u[i + 8], u[i + 12]);
                s[i + 12] = _mm512_shuffle_f32x4::<0xdd>(u[i + 8], u[i + 12]);
            }
            let mut out = [z; 16];
            for i in 0..4 {
                out[i] = _mm512_shuffle_f32x4::<0x88>(s[i], s[i + 8]);
                out[i + 8] = _mm512_shuffle_f32x4::<0xdd>(s[i], s[i + 8]);
                out[i + 4] = _mm512_shuffle_f32x4::<0x88>(s[i + 4], s[i + 12]);
                out[i + 12] = _mm512_shuffle_f32x4::<0xdd>(s[i + 4], s[i + 12]);
            }
            out
        }
    }
}

/// Two registers of AVX2.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn both(f: impl Fn(usize) -> __m256) -> [__m256; 2] {
    [f(0), f(1)]
}

#[cfg(target_arch = "x86_64")]
impl Simd for Avx2 {
    type V = [__m256; 2];
    type Mask = [__m256; 2];
    // 12 of 16 registers, two for a vector of weights, one for the pixel.
    const PIXELS: usize = 6;
    const OUTPUTS: usize = 1;
    const INPUTS: usize = 6;

    methods! {
        fn zero() -> Self::V {
            both(|_| _mm256_setzero_ps())
        }
        fn splat(x: f32) -> Self::V {
            both(|_| _mm256_set1_ps(x))
        }
        fn load(p: *const f32) -> Self::V {
            both(|i| _mm256_loadu_ps(p.add(8 * i)))
        }
        fn store(p: *mut f32, v: Self::V) -> () {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
        fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            both(|i| _mm256_fmadd_ps(a[i], b[i], c[i]))
        }
        fn add(a: Self::V, b: Self::V) -> Self::V {
            both(|i| _mm256_add_ps(a[i], b[i]))
        }
        fn sub(a: Self::V, b: Self::V) -> Self::V {
            both(|i| _mm256_sub_ps(a[i], b[i]))
        }
        fn mul(a: Self::V, b: Self::V) -> Self::V {
            both(|i| _mm256_mul_ps(a[i], b[i]))
        }
        fn div(a: Self::V, b: Self::V) -> Self::V {
            both(|i| _mm256_div_ps(a[i], b[i]))
        }
        fn power_of_two(n: Self::V) -> Self::V {
            let exponent = |n| _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            both(|i| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent(n[i]))))
        }
        fn beats(a: Self::V, b: Self::V) -> Self::Mask {
            both(|i| _mm256_or_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a[i], b[i]), _mm256_cmp_ps::<_CMP_UNORD_Q>(a[i], a[i])))
        }
        fn not_positive(a: Self::V) -> Self::Mask {
            both(|i| _mm256_cmp_ps::<_CMP_LE_OQ>(a[i], _mm256_setzero_ps()))
        }
        fn equal(a: Self::V, b: Self::V) -> Self::Mask {
            both(|i| _mm256_cmp_ps::<_CMP_EQ_OQ>(a[i], b[i]))
        }
        fn select(mask: Self::Mask, yes: Self::V, no: Self::V) -> Self::V {
            both(|i| _mm256_blendv_ps(no[i], yes[i], mask[i]))
        }
        fn load_some(p: *const f32, count: usize) -> Self::V {
            both(|i| _mm256_maskload_ps(p.wrapping_add(8 * i), first(count, i)))
        }
        fn store_some(p: *mut f32, v: Self::V, count: usize) -> () {
            for i in 0..2 {
                _mm256_maskstore_ps(p.wrapping_add(8 * i), first(count, i), v[i]);
            }
        }
        fn store_u8(p: *mut u8, v: Self::V) -> () {
            let (a, b) = (_mm256_cvttps_epi32(v[0]), _mm256_cvttps_epi32(v[1]));
            // Packing works inside halves of 128 bits; the permutation puts the quarters back in order.
            let words = _mm256_permute4x64_epi64::<0xd8>(_mm256_packs_epi32(a, b));
            let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(p.cast(), bytes);
        }
        fn load_u8(p: *const u8) -> Self::V {
            both(|i| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.add(8 * i).cast()))))
        }
        fn deinterleave(a: Self::V, b: Self::V) -> (Self::V, Self::V) {
            let (a_even, a_odd) = deinterleave8(a[0], a[1]);
            let (b_even, b_odd) = deinterleave8(b[0], b[1]);
            ([a_even, b_even], [a_odd, b_odd])
        }
        fn transpose(rows: [Self::V; 16]) -> [Self::V; 16] {
            // Four 8 × 8 transpositions; the two off the diagonal change places.
            let z = _mm256_setzero_ps();
            let mut out = [[z; 2]; 16];
            for half in 0..2 {
                for first in 0..2 {
                    let mut part = [z; 8];
                    for i in 0..8 {
                        part[i] = rows[8 * first + i][half];
                    }
                    let part = transpose8(part);
                    for i in 0..8 {
                        out[8 * half + i][first] = part[i];
                    }
                }
            }
            out
        }
    }
}

/// Which values of register `half` belong to the first `count` of both.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn first(count: usize, half: usize) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe {
        let places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32 - 8 * half as i32), places)
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn deinterleave8(a: __m256, b: __m256) -> (__m256, __m256) {
    // SAFETY: the caller has AVX2.
    unsafe {
        // Shuffling works inside halves of 128 bits; the permutation puts the quarters back in order.
        let even = _mm256_castps_pd(_mm256_shuffle_ps::<0x88>(a, b));
        let odd = _mm256_castps_pd(_mm256_shuffle_ps::<0xdd>(a, b));
        (_mm256_castpd_ps(_mm256_permute4x64_pd::<0xd8>(even)), _mm256_castpd_ps(_mm256_permute4x64_pd::<0xd8>(odd)))
    }
}

// A function and loops, no closures: those would be compiled without AVX2 and called for each instruction.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn transpose8(r: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: the caller has AVX2.
    unsafe {
        let z = _mm256_setzero_ps();
        let (mut t, mut u, mut out) = ([z; 8], [z; 8], [z; 8]);
        for i in 0..4 {
            t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
        }
        for i in 0..2 {
            let b = 4 * i;
            u[b] = _mm256_shuffle_ps::<0x44>(t[b], t[b + 2]);
            u[b + 1] = _mm256_shuffle_ps::<0xee>(t[b], t[b + 2]);
            u[b + 2] = _mm256_shuffle_ps::<0x44>(t[b + 1], t[b + 3]);
            u[b + 3] = _mm256_shuffle_ps::<0xee>(t[b + 1], t[b + 3]);
        }
        for i in 0..4 {
            out[i] = _mm256_permute2f128_ps::<0x20>(u[i], u[i + 4]);
            out[i + 4] = _mm256_permute2f128_ps::<0x31>(u[i], u[i + 4]);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<S: Simd>() {
        let rows: Vec<f32> = (0..256).map(|i| i as f32).collect();
        let mut out = vec![0f32; 256];
        // SAFETY: `rows` and `out` hold sixteen times sixteen values, and the caller has checked the instruction set.
        unsafe {
            let t = S::transpose(std::array::from_fn(|i| S::load(rows[16 * i..].as_ptr())));
            t.iter().enumerate().for_each(|(i, &row)| S::store(out[16 * i..].as_mut_ptr(), row));
        }
        for i in 0..256 {
            assert_eq!(out[i], rows[i % 16 * 16 + i / 16]);
        }
        // SAFETY: as above.
        unsafe {
            let (even, odd) = S::deinterleave(S::load(rows.as_ptr()), S::load(rows[16..].as_ptr()));
            S::store(out.as_mut_ptr(), even);
            S::store(out[16..].as_mut_ptr(), odd);
        }
        for i in 0..16 {
            assert_eq!((out[i], out[16 + i]), (rows[2 * i], rows[2 * i + 1]));
        }
        let nan = f32::NAN;
        let a = [1., 2., nan, nan, -1., 0., 1., f32::INFINITY, f32::NEG_INFINITY, 0., -0., 5., 6., 7., 8., 9.];
        let b = [2., 1., 1., nan, nan, 0., 1., 1., f32::NEG_INFINITY, -1., 0., 5., 5., 5., 5., 5.];
        let mut bytes = [0u8; 16];
        // SAFETY: as above.
        unsafe {
            let (va, vb) = (S::load(a.as_ptr()), S::load(b.as_ptr()));
            let (one, zero) = (S::splat(1.), S::zero());
            S::store_u8(bytes.as_mut_ptr(), S::select(S::beats(va, vb), one, zero));
            let wanted: Vec<u8> = a.iter().zip(&b).map(|(a, b)| u8::from(a > b || a.is_nan())).collect();
            assert_eq!(bytes.as_slice(), wanted);
            S::store_u8(bytes.as_mut_ptr(), S::select(S::not_positive(va), one, zero));
            assert_eq!(bytes.as_slice(), a.iter().map(|a| u8::from(*a <= 0.)).collect::<Vec<_>>());
            S::store_u8(bytes.as_mut_ptr(), S::select(S::equal(va, vb), one, zero));
            assert_eq!(bytes.as_slice(), a.iter().zip(&b).map(|(a, b)| u8::from(a == b)).collect::<Vec<_>>());
            let counted: [u8; 16] = std::array::from_fn(|i| i as u8 * 8);
            S::store(out.as_mut_ptr(), S::load_u8(counted.as_ptr()));
            assert_eq!(out[..16], counted.map(f32::from));
            S::store_u8(bytes.as_mut_ptr(), S::load(out.as_ptr()));
            assert_eq!(bytes, counted);
            let [x, y, z] = [3f32, 4., 5.].map(|x| S::splat(x));
            S::store(out.as_mut_ptr(), S::fma(x, y, S::sub(S::mul(x, z), S::add(y, z))));
            assert_eq!(out[..16], [18.; 16]);
            S::store(out.as_mut_ptr(), S::div(S::load(rows.as_ptr()), z));
            assert_eq!(out[..16], std::array::from_fn::<f32, 16, _>(|i| i as f32 / 5.));
            let exponents: [f32; 16] = std::array::from_fn(|i| [-126., 127., i as f32 - 8.][i % 3]);
            S::store(out.as_mut_ptr(), S::power_of_two(S::load(exponents.as_ptr())));
            assert_eq!(out[..16], exponents.map(f32::exp2));
            for count in 0..16 {
                let some = S::load_some(rows[1..=count].as_ptr(), count);
                S::store(out.as_mut_ptr(), some);
                let wanted: [f32; 16] = std::array::from_fn(|i| if i < count { i as f32 + 1. } else { 0. });
                assert_eq!(out[..16], wanted);
                out.fill(-1.);
                S::store_some(out.as_mut_ptr(), some, count);
                assert_eq!(out[..count], wanted[..count]);
                assert!(out[count..].iter().all(|&value| value == -1.));
            }
        }
    }

    #[test]
    fn all_instruction_sets_agree() {
        check::<Plain>();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                check::<Avx2>();
            }
            if super::super::detect() == super::super::InstructionSet::Avx512 {
                check::<Avx512>();
            }
        }
    }
}
