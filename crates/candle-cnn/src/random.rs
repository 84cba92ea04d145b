//! Named random streams.
//!
//! Every random number in training comes from a stream keyed by (seed, purpose, indices), for example
//! `(7, "shuffle", [epoch])` or `(7, "crop", [epoch, sample])`. So no number depends on the order of calls, the number
//! of threads, or other draws: a run resumed at epoch 3 draws the same numbers there as an uninterrupted one.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    /// The step, and a number that no other call of [`set_step`] gave.
    static STEP: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
}

/// Sets the training step that this thread is at, counted from 0 over all epochs; `None` outside training.
///
/// [`Dropout`](crate::layers::Dropout) draws its masks from it, so a run resumed at step 500 draws the same masks there
/// as an uninterrupted one. It is set per thread because `forward_t` has no argument for it.
///
/// ```
/// use candle_cnn::{layers::Dropout, random::set_step};
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::ModuleT;
/// let x = Tensor::ones(100, DType::F32, &Device::Cpu)?;
/// let at = |step| {
///     set_step(Some(step));
///     Dropout::new(0.5, 7)?.forward_t(&x, true)?.to_vec1::<f32>()
/// };
/// assert_eq!(at(500)?, at(500)?);
/// assert_ne!(at(500)?, at(501)?);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn set_step(step: Option<u64>) {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    STEP.set(step.map(|step| (step, CALLS.fetch_add(1, Ordering::Relaxed))));
}

/// The step that was set last, and the number of that call.
pub(crate) fn step() -> Option<(u64, u64)> {
    STEP.get()
}

/// One round of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The random stream for `purpose` at `indices` under `seed`: the same arguments give the same numbers on every
/// machine; different arguments give independent numbers.
///
/// ```
/// use candle_cnn::random::stream;
/// use rand::Rng;
///
/// let mut epoch_2: rand_chacha::ChaCha8Rng = stream(7, "shuffle", &[2]);
/// let mut again = stream(7, "shuffle", &[2]);
/// let mut epoch_3 = stream(7, "shuffle", &[3]);
/// let first: u64 = epoch_2.random();
/// assert_eq!(first, again.random::<u64>());
/// assert_ne!(first, epoch_3.random::<u64>());
/// ```
pub fn stream(seed: u64, purpose: &str, indices: &[u64]) -> ChaCha8Rng {
    let mut state = seed;
    let mut absorb = |word: u64| {
        let mixed = split_mix(&mut state);
        state = mixed ^ word;
    };
    // The lengths keep ("a", [1]) and ("a\u{1}", []) apart.
    absorb(purpose.len() as u64);
    for chunk in purpose.as_bytes().chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        absorb(u64::from_le_bytes(word));
    }
    absorb(indices.len() as u64);
    indices.iter().for_each(|&index| absorb(index));
    let mut key = [0; 32];
    for word in key.chunks_exact_mut(8) {
        word.copy_from_slice(&split_mix(&mut state).to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use super::stream;
    use rand::Rng;
    use std::collections::HashSet;

    #[test]
    fn streams_differ_in_each_part_of_their_key() {
        let keys: [(u64, &str, &[u64]); 8] = [
            (0, "", &[]),
            (1, "", &[]),
            (0, "a", &[]),
            (0, "a\u{1}", &[]),
            (0, "a", &[1]),
            (0, "a", &[1, 0]),
            (0, "a", &[0, 1]),
            (0, "a longer purpose than eight bytes", &[0, 1]),
        ];
        let first: HashSet<u64> =
            keys.iter().map(|(seed, purpose, indices)| stream(*seed, purpose, indices).random()).collect();
        assert_eq!(first.len(), keys.len());
    }

    #[test]
    fn neighboring_streams_are_not_correlated() {
        let draws: Vec<f64> = (0..10_000).map(|index| stream(0, "flip", &[0, index]).random()).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        // Five standard deviations: that of the mean of 10,000 uniform numbers is 0.0029.
        assert!((mean - 0.5).abs() < 0.0145, "mean {mean}");
        let lag: f64 = draws.windows(2).map(|w| (w[0] - 0.5) * (w[1] - 0.5)).sum::<f64>() * 12.0 / draws.len() as f64;
        // Five standard deviations: that of the autocorrelation of 10,000 independent numbers is 0.01.
        assert!(lag.abs() < 0.05, "autocorrelation {lag}");
    }
}
