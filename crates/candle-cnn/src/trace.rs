//! The record of a forward pass, layer by layer.
//!
//! Layers report each call here, at no cost unless a record is active. A summary, a diagram of the network and feature
//! maps all come from such a record, so they show what actually ran.

use candle_core::{Result, Tensor, TensorId, Var};
use std::cell::RefCell;

use crate::config::{Conv2dConfig, Gelu};

/// What a layer computes, with everything needed to compute it elsewhere; shapes are as in the layer's documentation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Operation {
    /// A convolution.
    Conv2d {
        /// `[O, C / groups, KH, KW]`.
        weight: Tensor,
        /// `[O]`.
        bias: Option<Tensor>,
        /// Padding, stride, dilation, groups.
        config: Conv2dConfig,
    },
    /// Batch normalization.
    BatchNorm2d {
        /// `[C]`.
        running_mean: Tensor,
        /// `[C]`.
        running_var: Tensor,
        /// The scale, `[C]`.
        weight: Option<Tensor>,
        /// The shift, `[C]`.
        bias: Option<Tensor>,
        /// Added to the variance.
        eps: f64,
        /// Whether it normalized with the batch's own mean and variance instead of the running ones.
        train: bool,
    },
    /// A linear layer.
    Linear {
        /// `[O, I]`.
        weight: Tensor,
        /// `[O]`.
        bias: Option<Tensor>,
    },
    /// The largest of each window.
    MaxPool2d {
        /// The window's height and width, in pixels.
        kernel: (usize, usize),
        /// The vertical and horizontal stride, in pixels.
        stride: (usize, usize),
    },
    /// The mean of each window.
    AvgPool2d {
        /// The window's height and width, in pixels.
        kernel: (usize, usize),
        /// The vertical and horizontal stride, in pixels.
        stride: (usize, usize),
    },
    /// x + y.
    Add,
    /// max(x, 0).
    Relu,
    /// x · Φ(x), exactly or by the hyperbolic tangent.
    Gelu(Gelu),
    /// x · factor.
    Scale {
        /// The factor.
        factor: f64,
    },
    /// `[N, …]` to `[N, rest]`.
    Flatten,
    /// Leaves values unchanged in inference.
    Dropout {
        /// Whether values were dropped.
        train: bool,
    },
}

impl Operation {
    /// What tells a layer's parameters from another's, even of the same name; `None` for functions without any.
    pub fn identity(&self) -> Option<TensorId> {
        match self {
            Self::Conv2d { weight, .. } | Self::Linear { weight, .. } => Some(weight.id()),
            Self::BatchNorm2d { running_mean, weight, .. } => Some(weight.as_ref().unwrap_or(running_mean).id()),
            _ => None,
        }
    }
}

/// One call of one layer.
#[derive(Clone, Debug)]
pub struct LayerCall {
    /// The layer's name, as its parameters are prefixed (`conv1`); empty for functions without parameters.
    pub name: String,
    /// What the layer is (`Conv2d`, `BatchNorm2d`, `ReLU`).
    pub kind: &'static str,
    /// Its settings in a few characters (`3→32, 3×3, padding 1`).
    pub settings: String,
    /// What it computes, with its parameters: for a program that runs the network elsewhere.
    pub operation: Operation,
    /// The input.
    pub inputs: Vec<Tensor>,
    /// The output tensor itself, for feature maps.
    pub output: Tensor,
    /// The number of trained values that belong to the layer.
    pub parameters: usize,
    /// Multiply-adds of this call, for the whole batch.
    pub multiply_adds: u64,
}

impl LayerCall {
    /// A call of a layer without a name or parameters.
    pub(crate) fn of(kind: &'static str, settings: String, operation: Operation, x: &Tensor, y: &Tensor) -> Self {
        let (inputs, output) = (vec![x.clone()], y.clone());
        Self { name: String::new(), kind, settings, operation, inputs, output, parameters: 0, multiply_adds: 0 }
    }
}

/// A record in progress.
#[derive(Clone, Debug, Default)]
struct Record {
    calls: Vec<LayerCall>,
    cut: Cut,
}

/// Which outputs are cut off from what they were computed from, and become variables of their own.
#[derive(Clone, Copy, Debug, Default)]
enum Cut {
    #[default]
    Nowhere,
    Everywhere,
    /// After the call of this number, counted from 0.
    After(usize),
}

impl Record {
    /// Whether the output of the next call is cut off.
    fn cuts_here(&self) -> bool {
        match self.cut {
            Cut::Nowhere => false,
            Cut::Everywhere => true,
            Cut::After(call) => call == self.calls.len(),
        }
    }
}

thread_local! {
    static RECORD: RefCell<Option<Record>> = const { RefCell::new(None) };
}

/// Whether this thread is recording: a fused operation then runs its layers one by one, so that each is seen.
pub fn is_recording() -> bool {
    RECORD.with_borrow(Option::is_some)
}

/// Reports a layer's call and returns the `output` to use in its place; `call` is not run unless a record is active.
///
/// # Errors
/// If an output that becomes a variable ([`dissect`], [`record_cut_after`]) can't be copied.
pub fn report(output: Tensor, call: impl FnOnce(&Tensor) -> LayerCall) -> Result<Tensor> {
    let Some(cut) = RECORD.with_borrow(|record| record.as_ref().map(Record::cuts_here)) else {
        return Ok(output);
    };
    let output = match cut {
        true => Var::from_tensor(&output.detach())?.into_inner(),
        false => output,
    };
    // Built before the record is borrowed: building may itself ask whether one records.
    let call = call(&output);
    RECORD.with_borrow_mut(|record| record.iter_mut().for_each(|record| record.calls.push(call.clone())));
    Ok(output)
}

/// Runs `forward` on this thread and returns its result with the calls of all layers, in order. Recordings nest: the
/// outer one includes the inner one's calls.
///
/// ```
/// use candle_cnn::{layers::linear, parameters::Parameters, trace};
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::Module;
///
/// let layer = linear(4, 2, Parameters::new(0).var_builder(&Device::Cpu).pp("fc"))?;
/// let x = Tensor::zeros((1, 4), DType::F32, &Device::Cpu)?;
/// let (output, calls) = trace::record(|| layer.forward(&x));
/// assert_eq!(output?.dims(), [1, 2]);
/// assert_eq!((calls[0].name.as_str(), calls[0].kind), ("fc", "Linear"));
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn record<T>(forward: impl FnOnce() -> T) -> (T, Vec<LayerCall>) {
    record_as(Cut::Nowhere, forward)
}

/// Like [`record`], with each layer's output made a variable of its own. Gradients then end at it, and
/// [`Tensor::sorted_nodes`] of a layer's input tells which outputs it came from directly, also through operations that
/// report nothing: the network's wiring.
///
/// ```
/// use candle_cnn::{ops::relu, trace};
/// use candle_core::{Device, Tensor, Var};
///
/// let x = Var::new(&[-1f32, 2.], &Device::Cpu)?;
/// let (y, calls) = trace::dissect(|| relu(&(relu(&x)? * 2.)?));
/// let sources: Vec<_> = calls[1].inputs[0].sorted_nodes().into_iter().map(Tensor::id).collect();
/// assert!(sources.contains(&calls[0].output.id()));
/// assert!(!sources.contains(&x.id()));
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn dissect<T>(forward: impl FnOnce() -> T) -> (T, Vec<LayerCall>) {
    record_as(Cut::Everywhere, forward)
}

/// Like [`record`], with the output of call number `call` (counted from 0) made a variable of its own. candle keeps the
/// gradients of variables only; so this is how to ask for that of a value inside the network. Where there are
/// not so many calls nothing is cut.
///
/// ```
/// use candle_cnn::{ops::relu, trace};
/// use candle_core::{Device, Tensor, Var};
///
/// let x = Var::new(&[-1f32, 2.], &Device::Cpu)?;
/// let (y, calls) = trace::record_cut_after(0, || relu(&x)?.sqr());
/// let gradients = y?.sum_all()?.backward()?;
/// assert_eq!(gradients.get(&calls[0].output).unwrap().to_vec1::<f32>()?, [0., 4.]);
/// assert!(gradients.get(&x).is_none());
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn record_cut_after<T>(call: usize, forward: impl FnOnce() -> T) -> (T, Vec<LayerCall>) {
    record_as(Cut::After(call), forward)
}

fn record_as<T>(cut: Cut, forward: impl FnOnce() -> T) -> (T, Vec<LayerCall>) {
    /// Restores the outer record, even if `forward` panics.
    struct Restore(Option<Record>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let inner = RECORD.take();
            if let Some(mut outer) = self.0.take() {
                outer.calls.extend(inner.into_iter().flat_map(|record| record.calls));
                RECORD.set(Some(outer));
            }
        }
    }
    let restore = Restore(RECORD.replace(Some(Record { calls: Vec::new(), cut })));
    let result = forward();
    let calls = RECORD.with_borrow(|record| record.as_ref().map(|record| record.calls.clone()).unwrap_or_default());
    drop(restore);
    (result, calls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn call(name: &str) {
        let output = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        let call = |output: &Tensor| LayerCall {
            name: name.to_string(),
            ..LayerCall::of("ReLU", String::new(), Operation::Relu, output, output)
        };
        report(output, call).unwrap();
    }

    fn names(calls: &[LayerCall]) -> Vec<&str> {
        calls.iter().map(|call| call.name.as_str()).collect()
    }

    #[test]
    fn recordings_nest_and_survive_a_panic() {
        let (inner, outer) = record(|| {
            call("a");
            let ((), inner) = record(|| call("b"));
            let panicked = std::panic::catch_unwind(|| record(|| panic!("in a layer")));
            assert!(panicked.is_err());
            call("c");
            inner
        });
        assert_eq!(names(&inner), ["b"]);
        assert_eq!(names(&outer), ["a", "b", "c"]);
        assert!(!is_recording());
    }
}
