//! Networks that are hard to write as ONNX: `src/checkpoint/onnx.rs` reads back what is written of them, and
//! `with_onnxruntime.py` runs it.

use candle_cnn::layers::{
    AvgPool2d, BatchNorm2d, BatchNormConfig, Conv2d, Conv2dConfig, Dropout, Flatten, Linear, MaxPool2d, Relu,
    Sequential, batch_norm2d, conv2d, conv2d_no_bias, linear,
};
use candle_cnn::ops::{self, RunningStatistics};
use candle_cnn::parameters::Parameters;
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Module, ModuleT, VarBuilder, func_t};

/// A network for images of one shape.
pub struct Case {
    pub name: &'static str,
    /// Channels, height, width.
    pub shape: (usize, usize, usize),
    network: Box<dyn ModuleT>,
}

impl ModuleT for Case {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.network.forward_t(x, train)
    }
}

/// Values from −1 to 1 that repeat nowhere near.
pub fn wave(shape: &[usize], seed: f32) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| (0.7 * i as f32 + seed).sin()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Builds layers whose parameters nobody else has, whatever their names.
fn vb(seed: u64) -> VarBuilder<'static> {
    Parameters::new(seed).var_builder(&Device::Cpu)
}

fn statistics(channels: usize) -> Result<RunningStatistics> {
    let mean = Var::from_tensor(&wave(&[channels], 1.0)?)?;
    let var = Var::from_tensor(&(wave(&[channels], 2.0)?.sqr()? + 0.3)?)?;
    Ok(RunningStatistics { mean, var, num_batches_tracked: None })
}

/// Layers of these names from `[N, 48]`, each from 16 features to as many but the first and the last, with ReLUs between.
fn chain(names: &[&str]) -> Result<Sequential> {
    let mut net = Sequential::new().add(Flatten);
    for (index, name) in names.iter().enumerate() {
        let (inputs, outputs) = (if index == 0 { 48 } else { 16 }, if index + 1 == names.len() { 5 } else { 16 });
        net = net.add(linear(inputs, outputs, vb(index as u64).pp(name))?);
        if index + 1 < names.len() {
            net = net.add(Relu);
        }
    }
    Ok(net)
}

pub fn all() -> Result<Vec<Case>> {
    let small = (3, 4, 4);
    let mut cases: Vec<Case> = Vec::new();
    let mut add = |name, shape, network: Box<dyn ModuleT>| cases.push(Case { name, shape, network });

    let same = Sequential::new().add(Flatten).add(linear(48, 48, vb(1).pp("fc"))?).add(Relu).add(linear(
        48,
        48,
        vb(2).pp("fc"),
    )?);
    add("same_names_and_shapes", small, Box::new(same));
    add("same_names", small, Box::new(chain(&["fc", "fc", "fc"])?));
    add("names_of_the_ends", small, Box::new(chain(&["logits", "images", "logits"])?));
    add("names_of_parameters", small, Box::new(chain(&["fc.weight", "fc", "fc.bias", "weight", "bias"])?));
    add(
        "names_with_numbers",
        small,
        Box::new(chain(&["fc", "fc_2", "fc", "ReLU_1", "Flatten_1", "fc.weight_2", "fc"])?),
    );
    add("odd_characters", small, Box::new(chain(&["größe/1 \n\"{}\\", "🙂", "a.b..c", " ", "\u{0}"])?));

    let bias = || wave(&[5], 4.0);
    let nameless = Sequential::new()
        .add(Flatten)
        .add(Linear::new(wave(&[16, 48], 0.0)?, None))
        .add(Relu)
        .add(linear(16, 16, vb(0))?)
        .add(Linear::new(wave(&[5, 16], 3.0)?, Some(bias()?)));
    add("nameless", small, Box::new(nameless));

    let tied = wave(&[48, 48], 5.0)?;
    let net = Sequential::new()
        .add(Flatten)
        .add(Linear::new(tied.clone(), Some(wave(&[48], 1.0)?)))
        .add(Relu)
        .add(Linear::new(tied, Some(wave(&[48], 2.0)?)));
    add("tied_weights", small, Box::new(net));

    let (conv, fc) = (
        conv2d(3, 3, 3, Conv2dConfig { padding: 1, ..Default::default() }, vb(3).pp("conv"))?,
        linear(48, 48, vb(4).pp("fc"))?,
    );
    let net = Sequential::new().add(conv.clone()).add(Relu).add(conv).add(Flatten).add(fc.clone()).add(Relu).add(fc);
    add("layers_applied_twice", small, Box::new(net));

    let running = statistics(3)?;
    let config = BatchNormConfig { eps: 0.1, ..Default::default() };
    let norm = |seed| -> Result<BatchNorm2d> {
        BatchNorm2d::new(running.clone(), Some(wave(&[3], seed)?), Some(wave(&[3], seed + 1.0)?), config)
    };
    let plain = BatchNorm2d::new(statistics(3)?, None, None, BatchNormConfig { eps: 0.0, ..Default::default() })?;
    let net = Sequential::new().add(norm(0.0)?).add(norm(5.0)?).add(plain.clone()).add(Relu).add(plain).add(Flatten);
    add("shared_statistics", small, Box::new(net));
    let bare = BatchNormConfig { weight: false, bias: false, ..Default::default() };
    let net = Sequential::new().add(batch_norm2d(3, bare, vb(0).pp("bn"))?).add(batch_norm2d(3, 1e-3, vb(1).pp("bn"))?);
    add("norms_of_one_name", small, Box::new(net.add(Flatten)));

    let strided = wave(&[10, 10], 1.0)?;
    let net = Sequential::new()
        .add(Conv2d::new(wave(&[3, 3, 2, 4], 2.0)?.permute((3, 0, 1, 2))?, None, Default::default()))
        .add(Flatten)
        .add(Linear::new(wave(&[16, 10], 3.0)?.t()?, Some(strided.narrow(1, 3, 1)?.squeeze(1)?)))
        .add(Linear::new(strided.narrow(0, 2, 5)?, None));
    add("weights_that_are_views", (3, 4, 3), Box::new(net));

    add("output_is_the_input", small, Box::new(Sequential::new()));
    add(
        "nothing_but_dropout",
        small,
        Box::new(Sequential::new().add(Dropout::new(0.5, 0)?).add(Dropout::new(0.5, 1)?)),
    );
    add("nothing_but_flatten", small, Box::new(Sequential::new().add(Flatten).add(Flatten)));
    let (body, head) = (chain(&["body"])?, linear(5, 7, vb(9).pp("head"))?);
    let net = func_t(move |x, train| {
        let y = body.forward_t(x, train)?;
        // Neither leads to the output, and the second could not be written.
        head.forward(&ops::relu(&y)?)?;
        ops::relu(&(&y * 2.0)?)?;
        Ok(y)
    });
    add("output_is_an_intermediate", small, Box::new(net));
    let (first, rest) = (linear(48, 48, vb(7).pp("first"))?, Dropout::new(0.9, 3)?);
    let net = func_t(move |x, train| {
        let flat = ops::flatten(&ops::relu(x)?)?;
        // Flattening what is flat gives the very same tensor.
        ops::flatten(&rest.forward_t(&first.forward(&ops::flatten(&flat)?)?, train)?)
    });
    add("dropout_and_flat_tensors", small, Box::new(net));

    let net = func_t(|x, _| {
        let y = ops::relu(x)?;
        ops::flatten(&ops::add(&ops::add(&y, x)?, &y)?)
    });
    add("residuals", small, Box::new(net));

    let grouped = Conv2dConfig { padding: 2, stride: 2, dilation: 2, groups: 2 };
    let net = Sequential::new()
        .add(conv2d(4, 6, 3, grouped, vb(0).pp("conv"))?)
        .add(Conv2d::new(
            wave(&[4, 6, 1, 3], 1.0)?,
            Some(wave(&[4], 2.0)?),
            Conv2dConfig { padding: 1, ..Default::default() },
        ))
        .add(MaxPool2d::new(3, 2))
        .add(conv2d_no_bias(4, 4, 1, Default::default(), vb(1).pp("conv"))?)
        .add(AvgPool2d::new(2, 1))
        .add(Flatten);
    add("settings", (4, 15, 18), Box::new(net));
    let net = func_t(|x, _| ops::flatten(&ops::avg_pool2d(&ops::max_pool2d(x, (2, 3), (1, 2))?, (3, 1), (2, 3))?));
    add("pools_that_are_no_squares", (2, 9, 11), Box::new(net));
    Ok(cases)
}

/// What cannot be written, with a part of the reason.
pub fn refused() -> Result<Vec<(Case, &'static str)>> {
    let small = (3, 4, 4);
    let mut cases: Vec<(Case, &str)> = Vec::new();
    let mut add = |name, why, network: Box<dyn ModuleT>| cases.push((Case { name, shape: small, network }, why));
    let bn = batch_norm2d(3, 1e-5, vb(0).pp("bn1"))?;
    add(
        "norm_of_the_batch",
        "bn1 (BatchNorm2d) normalizes with the batch's own",
        Box::new(func_t(move |x, _| bn.forward_t(x, true))),
    );
    let dropout = Dropout::new(0.5, 0)?;
    add(
        "dropout_always",
        "Dropout drops values even in evaluation mode",
        Box::new(func_t(move |x, _| dropout.forward_t(x, true))),
    );
    let weight = wave(&[5, 48], 0.0)?;
    let from_images = func_t(move |x, _| {
        let flat = ops::flatten(x)?;
        Linear::new(weight.broadcast_mul(&flat.sum_all()?)?, None).forward(&flat)
    });
    add("weight_from_the_images", "the weight of Linear is computed from the images", Box::new(from_images));
    let fc = linear(4, 4, vb(1).pp("fc"))?;
    add(
        "linear_on_maps",
        "fc (Linear) takes [1, 3, 4, 4], but only [N, I] can be exported",
        Box::new(func_t(move |x, _| fc.forward(x))),
    );
    let net = func_t(|x, _| candle_nn::ops::softmax(&ops::flatten(x)?, 1));
    add("softmax_last", "was not computed by one of this crate's layers", Box::new(net));
    let net = func_t(|x, _| ops::flatten(&(ops::relu(x)? + x)?));
    add("a_sum", "what goes into Flatten was computed by an operation that reports nothing", Box::new(net));
    for (name, dtype) in [("f64", DType::F64), ("f16", DType::F16), ("bf16", DType::BF16)] {
        let fc = Linear::new(wave(&[5, 48], 0.0)?.to_dtype(dtype)?, None);
        let net = func_t(move |x, _| fc.forward(&ops::flatten(&x.to_dtype(dtype)?)?));
        add(name, "what goes into Flatten was computed by an operation that reports nothing", Box::new(net));
    }
    Ok(cases)
}
