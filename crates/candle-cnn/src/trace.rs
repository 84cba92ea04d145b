//! What a network does, layer by layer: the record of an actual forward pass.
//!
//! Layers report each call here; it costs nothing while nobody records. A summary, a drawing of the network and
//! feature maps are all read from such a record, so they show what really ran, not what was meant.

use candle_core::Tensor;
use std::cell::RefCell;

/// One call of one layer.
#[derive(Clone, Debug)]
pub struct LayerCall {
    /// The layer's name, as its parameters are prefixed (`conv1`); empty for functions without parameters.
    pub name: String,
    /// What the layer is (`Conv2d`, `BatchNorm2d`, `ReLU`).
    pub kind: &'static str,
    /// Its settings in a few characters (`3→32, 3×3, padding 1`).
    pub settings: String,
    /// What went in; the tensor itself, so that feature maps can be looked at.
    pub inputs: Vec<Tensor>,
    /// What came out.
    pub output: Tensor,
    /// The number of trained values that belong to the layer.
    pub parameters: usize,
    /// Multiply-adds of this call, for the batch that went in.
    pub multiply_adds: u64,
}

thread_local! {
    static RECORD: RefCell<Option<Vec<LayerCall>>> = const { RefCell::new(None) };
}

/// Whether this thread is recording: a fused operation then runs its layers one by one, so that each is seen.
///
/// ```
/// use candle_cnn::trace;
/// assert!(!trace::is_recording());
/// assert!(trace::record(trace::is_recording).0);
/// ```
pub fn is_recording() -> bool {
    RECORD.with_borrow(Option::is_some)
}

/// Reports a layer's call; `call` is not run while nobody records.
///
/// ```
/// candle_cnn::trace::report(|| unreachable!("nobody records"));
/// ```
pub fn report(call: impl FnOnce() -> LayerCall) {
    if is_recording() {
        // Built before the record is borrowed: building may itself ask whether one records.
        let call = call();
        RECORD.with_borrow_mut(|record| record.iter_mut().for_each(|calls| calls.push(call.clone())));
    }
}

/// Runs `forward` on this thread and returns what it returned, with the calls of all layers in their order.
/// Recordings nest: the inner one's calls are also the outer one's.
///
/// ```
/// use candle_cnn::{parameters::Parameters, trace};
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::Module;
///
/// let vb = Parameters::new(0).var_builder(&Device::Cpu);
/// let layer = candle_cnn::layers::linear(4, 2, vb.pp("fc"))?;
/// let x = Tensor::zeros((1, 4), DType::F32, &Device::Cpu)?;
/// let (output, calls) = trace::record(|| layer.forward(&x));
/// assert_eq!(output?.dims(), [1, 2]);
/// assert_eq!((calls[0].name.as_str(), calls[0].kind), ("fc", "Linear"));
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn record<T>(forward: impl FnOnce() -> T) -> (T, Vec<LayerCall>) {
    /// Puts the outer record back, also where `forward` panics.
    struct Restore(Option<Vec<LayerCall>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let inner = RECORD.take();
            if let Some(mut outer) = self.0.take() {
                outer.extend(inner.into_iter().flatten());
                RECORD.set(Some(outer));
            }
        }
    }
    let restore = Restore(RECORD.replace(Some(Vec::new())));
    let result = forward();
    let calls = RECORD.with_borrow(|record| record.clone().unwrap_or_default());
    drop(restore);
    (result, calls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn call(name: &str) -> LayerCall {
        let output = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        LayerCall {
            name: name.to_string(),
            kind: "ReLU",
            settings: String::new(),
            inputs: vec![],
            output,
            parameters: 0,
            multiply_adds: 0,
        }
    }

    fn names(calls: &[LayerCall]) -> Vec<&str> {
        calls.iter().map(|call| call.name.as_str()).collect()
    }

    #[test]
    fn recordings_nest_and_survive_a_panic() {
        let (inner, outer) = record(|| {
            report(|| call("a"));
            let ((), inner) = record(|| report(|| call("b")));
            let panicked = std::panic::catch_unwind(|| record(|| panic!("in a layer")));
            assert!(panicked.is_err());
            report(|| call("c"));
            inner
        });
        assert_eq!(names(&inner), ["b"]);
        assert_eq!(names(&outer), ["a", "b", "c"]);
        assert!(!is_recording());
    }
}
