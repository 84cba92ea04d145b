//! Bad shapes, types and settings: an error that names the operation, what was found and what was wanted.

use candle_cnn::layers::{self, BatchNorm2d, BatchNormConfig, Conv2d, Conv2dConfig, ConvBlock, Dropout};
use candle_cnn::ops::{self, RunningStatistics};
use candle_cnn::optim::{AdamW, AdamWConfig, Muon, MuonConfig, ParameterGroup, SGD, SgdConfig, clip_gradients_by_norm};
use candle_cnn::parameters::Parameters;
use candle_cnn::schedule::Schedule;
use candle_cnn::{init, linalg};
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{ModuleT, Optimizer};
use proptest::prelude::*;
use std::fmt::Debug;

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

#[track_caller]
fn assert_says<T: Debug>(result: Result<T>, parts: &[&str]) {
    let message = result.unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

#[test]
fn convolution() {
    let (x, w) = (zeros(&[1, 3, 8, 8]), zeros(&[4, 3, 3, 3]));
    let conv = |x: &Tensor, w: &Tensor, b: Option<&Tensor>, config| ops::conv2d(x, w, b, config);
    let plain = Conv2dConfig::default();
    assert_says(conv(&zeros(&[3, 8, 8]), &w, None, plain), &["conv2d", "[3, 8, 8]", "[N, C, H, W]"]);
    assert_says(conv(&zeros(&[0, 3, 8, 8]), &w, None, plain), &["conv2d", "[0, 3, 8, 8]"]);
    assert_says(conv(&x, &zeros(&[4, 2, 3, 3]), None, plain), &["the weight", "[4, 2, 3, 3]", "[O, 3, KH, KW]"]);
    assert_says(conv(&x, &w, Some(&zeros(&[3])), plain), &["the bias", "[3]", "[4]"]);
    assert_says(conv(&zeros(&[1, 3, 2, 8]), &w, None, plain), &["[1, 3, 2, 8]", "3 × 3"]);
    assert_says(conv(&x, &w, None, Conv2dConfig { stride: 0, ..plain }), &["stride is 0", "at least 1"]);
    assert_says(conv(&x, &w, None, Conv2dConfig { dilation: 0, ..plain }), &["dilation is 0"]);
    assert_says(conv(&x, &w, None, Conv2dConfig { groups: 0, ..plain }), &["groups is 0"]);
    assert_says(conv(&x, &w, None, Conv2dConfig { groups: 2, ..plain }), &["[1, 3, 8, 8]", "2 groups"]);
    assert_says(conv(&x, &w, None, Conv2dConfig { padding: usize::MAX, ..plain }), &["padding is 18", "at most 65536"]);
    assert_says(conv(&x, &w, None, Conv2dConfig { dilation: usize::MAX, ..plain }), &["dilation is 18"]);
    let bytes = x.to_dtype(DType::U8).unwrap();
    assert_says(conv(&bytes, &w, None, plain), &["conv2d: the input has type U8", "floating-point", "to_dtype"]);
    let double = w.to_dtype(DType::F64).unwrap();
    assert_says(conv(&x, &double, None, plain), &["the weight", "F64", "F32"]);
    let vb = Parameters::new(0).var_builder(&Device::Cpu);
    assert_says(layers::conv2d(3, 4, 3, Conv2dConfig { groups: 2, ..plain }, vb), &["(3, 4)", "multiples"]);
}

#[test]
fn batch_norm() {
    let norm = |x: &Tensor, running: Option<&RunningStatistics>, train| {
        ops::batch_norm2d(x, running, None, None, BatchNormConfig::default(), train)
    };
    let running = RunningStatistics::new(3, DType::F32, &Device::Cpu).unwrap();
    assert_says(norm(&zeros(&[1, 3, 1, 1]), None, true), &["[1, 3, 1, 1]", "one value per channel"]);
    assert_says(norm(&zeros(&[2, 4, 2, 2]), Some(&running), true), &["the running mean", "[3]", "[4]"]);
    assert_says(norm(&zeros(&[2, 4, 2, 2]), None, false), &["batch_norm2d", "running"]);
    assert_says(norm(&zeros(&[2, 4]), None, true), &["batch_norm2d", "[2, 4]", "[N, C, H, W]"]);
    let three = zeros(&[3]);
    let four = |weight, bias| ops::batch_norm2d(&zeros(&[2, 4, 2, 2]), None, weight, bias, Default::default(), true);
    assert_says(four(Some(&three), None), &["batch_norm2d: the weight", "[3]", "[4]"]);
    assert_says(four(None, Some(&three)), &["batch_norm2d: the bias", "[3]", "[4]"]);
    let double = zeros(&[4]).to_dtype(DType::F64).unwrap();
    assert_says(four(Some(&double), None), &["batch_norm2d: the weight has type F64, expected F32"]);
    let config = BatchNormConfig { momentum: 1.5, ..Default::default() };
    let vb = Parameters::new(0).var_builder(&Device::Cpu);
    assert_says(layers::batch_norm2d(3, config, vb.clone()), &["momentum is 1.5", "from 0 to 1"]);
    assert_says(layers::batch_norm2d(3, BatchNormConfig::from(f64::NAN), vb), &["eps is NaN"]);
    // A refused batch leaves the running statistics alone.
    assert_eq!(running.num_batches_tracked.unwrap().to_scalar::<i64>().unwrap(), 0);
}

#[test]
fn pools_linear_and_cross_entropy() {
    assert_says(ops::max_pool2d(&zeros(&[1, 1, 1, 4]), 2, 2), &["max_pool2d", "[1, 1, 1, 4]", "2 × 2"]);
    assert_says(ops::max_pool2d(&zeros(&[1, 1, 4, 4]), 0, 2), &["kernel is 0"]);
    assert_says(ops::max_pool2d(&zeros(&[4, 4]), 2, 2), &["max_pool2d", "[4, 4]", "[N, C, H, W]"]);
    assert_says(ops::avg_pool2d(&zeros(&[1, 1, 4, 4]), (5, 1), 1), &["avg_pool2d", "[1, 1, 4, 4]", "5 × 1"]);
    assert_says(ops::avg_pool2d(&zeros(&[1, 0, 4, 4]), 2, 2), &["avg_pool2d", "[1, 0, 4, 4]"]);
    assert_says(ops::avg_pool2d(&zeros(&[1, 1, 4, 4]), 2, 0), &["avg_pool2d", "stride is 0"]);
    assert_says(ops::linear(&zeros(&[2, 3]), &zeros(&[5, 4]), None), &["linear", "[2, 3]", "[…, 4]"]);
    assert_says(ops::linear(&zeros(&[2, 4]), &zeros(&[5, 4]), Some(&zeros(&[4]))), &["the bias", "[4]", "[5]"]);
    assert_says(ops::linear(&zeros(&[2, 4]), &zeros(&[4]), None), &["the weight", "[4]", "[O, I]"]);
    assert_says(ops::flatten(&zeros(&[])), &["flatten", "[]"]);
    let logits = zeros(&[2, 10]);
    let labels = |values: &[i64]| Tensor::new(values, &Device::Cpu).unwrap();
    let half = logits.to_dtype(DType::F16).unwrap();
    assert_says(ops::cross_entropy(&half, &labels(&[1, 10])), &["sample 1", "label 10", "0 to 9"]);
    assert_says(ops::cross_entropy(&labels(&[1, 2]).unsqueeze(1).unwrap(), &labels(&[0, 0])), &["the logits", "I64"]);
    assert_says(ops::cross_entropy(&logits, &labels(&[1, 10])), &["sample 1", "label 10", "0 to 9"]);
    assert_says(ops::cross_entropy(&logits, &labels(&[-1, 0])), &["sample 0", "label -1"]);
    assert_says(ops::cross_entropy(&logits, &labels(&[1])), &["the labels", "[1]", "[2]"]);
    assert_says(ops::cross_entropy(&logits, &zeros(&[2])), &["the labels", "F32", "integer"]);
    assert_says(ops::cross_entropy(&zeros(&[10]), &labels(&[1])), &["the logits", "[10]", "[N, C]"]);
    assert_says(ops::count_correct(&logits, &labels(&[1])), &["count_correct", "the labels", "[1]", "[2]"]);
    assert_says(ops::count_correct(&logits, &zeros(&[2])), &["count_correct", "the labels", "F32", "integer"]);
    let pictures = zeros(&[2, 1, 3, 3]).to_dtype(DType::U8).unwrap();
    let place = |index| ops::Placement::tensor(&[ops::Placement::new(index)], &Device::Cpu).unwrap();
    let gather = |pictures: &Tensor, places: &Tensor, table: &Tensor| ops::gather_images(pictures, places, table);
    assert_says(gather(&pictures, &place(2), &zeros(&[1, 256])), &["sample 0", "image 2", "0 to 1"]);
    assert_says(gather(&pictures, &place(0), &zeros(&[3, 256])), &["gather_images", "the table", "[1, 256]"]);
    assert_says(gather(&pictures, &zeros(&[1, 4]), &zeros(&[1, 256])), &["gather_images", "the places", "I64"]);
    assert_says(gather(&zeros(&[2, 1, 3, 3]), &place(0), &zeros(&[1, 256])), &["the pictures", "F32", "U8"]);
    let smooth = ops::cross_entropy_with_label_smoothing(&logits, &labels(&[1, 2]), 1.5);
    assert_says(smooth, &["smoothing is 1.5"]);
}

/// candle convolves no bf16 by kernels of 1×1 on the CPU.
#[test]
fn what_candle_refuses_is_refused_by_the_operation() {
    let half = |shape: &[usize]| zeros(shape).to_dtype(DType::BF16).unwrap();
    let one = ops::conv2d(&half(&[1, 1, 1, 1]), &half(&[1, 1, 1, 1]), None, Conv2dConfig::default());
    assert_says(one, &["conv2d: candle can't compute this in BF16", "use f32"]);
}

#[test]
fn optimizers_and_schedules() {
    let var = Var::zeros(3, DType::F32, &Device::Cpu).unwrap();
    let config = SgdConfig::default();
    let one = || vec![var.clone()];
    assert_says(SGD::new(one(), SgdConfig { learning_rate: -1., ..config }), &["SGD", "learning_rate is -1"]);
    assert_says(SGD::new(one(), SgdConfig { nesterov: true, ..config }), &["nesterov", "momentum above 0"]);
    assert_says(SGD::new(one(), SgdConfig { dampening: f64::NAN, ..config }), &["SGD", "dampening is NaN", "finite"]);
    assert_says(SGD::new(one(), SgdConfig { weight_decay: -1., ..config }), &["SGD", "weight_decay is -1"]);
    assert_says(AdamW::new(one(), AdamWConfig { eps: -1., ..Default::default() }), &["AdamW", "eps is -1"]);
    assert_says(AdamW::new(one(), AdamWConfig { beta1: 1., ..Default::default() }), &["AdamW", "beta1 is 1"]);
    let twice = SGD::new(vec![var.clone(), var.clone()], config);
    assert_says(twice, &["parameters 0 and 1 share one tensor id", "candle is linked twice"]);
    let groups = vec![ParameterGroup { vars: one(), config }, ParameterGroup { vars: one(), config }];
    assert_says(SGD::with_groups(groups), &["share one tensor id"]);
    let mut sgd = SGD::new(one(), config).unwrap();
    assert_says(sgd.load_state(&[("momentum.1".into(), zeros(&[3]))].into()), &["momentum.1", "1 parameters"]);
    assert_says(sgd.load_state(&[("momentum.0".into(), zeros(&[4]))].into()), &["[4]", "[3]"]);
    let mut adamw = AdamW::new(one(), AdamWConfig::default()).unwrap();
    assert_says(adamw.load_state(&[("exp_avg.0".into(), zeros(&[3]))].into()), &["missing"]);
    let state = ["step.0", "exp_avg.0", "exp_avg_sq.0"].map(|name| (name.to_string(), zeros(&[3])));
    assert_says(adamw.load_state(&state.into()), &["step.0", "[3]", "scalar"]);
    let matrix = Var::ones((2, 2), DType::F32, &Device::Cpu).unwrap();
    let muon = |config| Muon::new(vec![matrix.clone()], config);
    assert_says(Muon::new(one(), MuonConfig::default()), &["Muon", "[3]", "two dimensions", "Muon::with_sgd"]);
    assert_says(muon(MuonConfig { momentum: -1., ..Default::default() }), &["Muon", "momentum is -1"]);
    let group = |var: &Var| ParameterGroup { vars: vec![var.clone()], config: MuonConfig::default() };
    let twice = Muon::with_sgd(vec![group(&matrix)], vec![ParameterGroup { vars: vec![matrix.clone()], config }]);
    assert_says(twice, &["parameters 0 and 1 share one tensor id"]);
    let mut optimizer = muon(MuonConfig::default()).unwrap();
    assert_says(
        optimizer.set_learning_rates(&[0.1, 0.2]),
        &["Muon", "number of learning rates is 2", "1, one for each"],
    );
    assert_says(optimizer.set_learning_rates(&[f64::NAN]), &["Muon", "learning_rate is NaN"]);
    assert_says(
        optimizer.load_state(&[("sgd.momentum.0".into(), zeros(&[3]))].into()),
        &["momentum.0", "0 parameters"],
    );
    assert_says(linalg::eigh(&zeros(&[2, 3])), &["eigh", "[2, 3]", "[N, N]"]);
    assert_says(init::whitening(&zeros(&[1, 1, 2, 2]), 3, 0.), &["whitening", "at least 3 pixels"]);
    let mut store = var.sum_all().unwrap().backward().unwrap();
    store.insert(&var, zeros(&[4]));
    assert_says(sgd.step(&store), &["SGD: a gradient has shape [4], expected [3]"]);
    store.insert(&var, zeros(&[3]).to_dtype(DType::F64).unwrap());
    assert_says(adamw.step(&store), &["AdamW: a gradient has type F64, expected F32"]);
    let mut store = var.sum_all().unwrap().backward().unwrap();
    assert_says(clip_gradients_by_norm(&mut store, &one(), f64::NAN), &["max_norm is NaN"]);
    assert_says(Schedule::one_cycle(0.1, 1), &["steps is 1", "at least 2"]);
    assert_says(Schedule::Cosine { initial: 1., minimum: 0., steps: 0 }.check(), &["steps is 0"]);
    assert_says(Dropout::new(1., 0), &["probability is 1"]);
    let bytes = Tensor::ones(4, DType::U8, &Device::Cpu).unwrap();
    assert_says(Dropout::new(0.25, 0).unwrap().forward_t(&bytes, true), &["dropout", "U8", "floating-point"]);
}

const TYPES: [DType; 7] = [DType::U8, DType::U32, DType::I64, DType::BF16, DType::F16, DType::F32, DType::F64];

fn tensor() -> impl Strategy<Value = Tensor> {
    let shape = prop_oneof![prop::collection::vec(0..4usize, 0..=5), prop::collection::vec(1..5usize, 4)];
    (shape, prop::sample::select(TYPES.to_vec()))
        .prop_map(|(shape, dtype)| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap().to_dtype(dtype).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever tensors and settings an operation is given, it computes or refuses in its own name; it never panics.
    #[test]
    fn refusals_name_their_operation(
        x in tensor(),
        a in tensor(),
        b in prop::option::of(tensor()),
        [k, stride, dilation, groups] in prop::array::uniform4(0..4usize),
        train: bool,
    ) {
        let b = b.as_ref();
        let config = Conv2dConfig { padding: k, stride, dilation, groups };
        let running = RunningStatistics {
            mean: Var::from_tensor(&a).unwrap(),
            var: Var::from_tensor(&a.copy().unwrap()).unwrap(),
            num_batches_tracked: None,
        };
        let conv = Conv2d::new(a.clone(), b.cloned(), config);
        let bn = BatchNorm2d::new(running.clone(), b.cloned(), None, BatchNormConfig::default()).unwrap();
        let results = [
            ("conv2d", ops::conv2d(&x, &a, b, config)),
            ("batch_norm2d", ops::batch_norm2d(&x, Some(&running), b, b, Default::default(), train)),
            ("conv_block", ConvBlock::new(conv, bn).forward_t(&x, train)),
            ("max_pool2d", ops::max_pool2d(&x, (k, groups), stride)),
            ("avg_pool2d", ops::avg_pool2d(&x, (k, groups), stride)),
            ("linear", ops::linear(&x, &a, b)),
            ("cross_entropy", ops::cross_entropy(&x, &a)),
            ("relu", ops::relu(&x)),
            ("scale", ops::scale(&x, k as f64)),
            ("add", ops::add(&x, &a)),
            ("gelu", ops::gelu(&x)),
            ("gelu", ops::gelu_tanh(&x)),
            ("flatten", ops::flatten(&x)),
        ];
        for (name, result) in results {
            if let Err(error) = result {
                let message = error.to_string();
                // The block is checked, and on some types run, as the operations it is made of.
                let parts = ["conv2d", "batch_norm2d", "max_pool2d"];
                let own = message.starts_with(&format!("{name}: "))
                    || name == "conv_block" && parts.iter().any(|part| message.starts_with(&format!("{part}: ")));
                prop_assert!(own, "{name} of {x:?}, {a:?}, {b:?}: {message}");
            }
        }
    }
}

/// What has no gradient is left as it is, and an integer is never trained.
#[test]
fn optimizers_skip_what_has_no_gradient() -> Result<()> {
    let (used, unused) = (Var::new(&[1f32], &Device::Cpu)?, Var::new(&[1f32], &Device::Cpu)?);
    let counter = Var::new(3i64, &Device::Cpu)?;
    let vars = vec![used.clone(), counter.clone(), unused.clone()];
    let mut sgd = SGD::new(vars, SgdConfig { weight_decay: 0.5, ..Default::default() })?;
    sgd.backward_step(&used.sum_all()?)?;
    assert_ne!(used.to_vec1::<f32>()?, [1.]);
    assert_eq!(unused.to_vec1::<f32>()?, [1.]);
    assert_eq!(counter.to_scalar::<i64>()?, 3);
    Ok(())
}
