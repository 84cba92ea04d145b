//! A step by `StepGraph`: on the CPU the very step that a loop does by itself.

mod support;

use candle_cnn::layers::Sequential;
use candle_cnn::ops;
use candle_cnn::optim::{AdamW, AdamWConfig, Capturable, SGD, SgdConfig};
use candle_cnn::parameters::Parameters;
use candle_cnn::step_graph::StepGraph;
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{ModuleT, Optimizer};
use support::{Numbers, flat, small_network};

/// Losses, counts and then all parameters and statistics of ten steps, with another rate at each and a short last batch.
fn train<O: Capturable>(by_graph: bool, optimizer: impl FnOnce(Vec<Var>) -> Result<O>) -> Result<Vec<Vec<f64>>> {
    let parameters = Parameters::new(5);
    let net: Sequential = small_network([4, 8], &parameters, &Device::Cpu, true)?;
    let mut optimizer = optimizer(parameters.trainable())?;
    let forward = |images: &Tensor, labels: &Tensor| {
        let logits = net.forward_t(images, true)?;
        Ok((ops::cross_entropy(&logits, labels)?, logits))
    };
    let mut step = StepGraph::new(forward);
    let (mut numbers, mut all) = (Numbers::new(6), Vec::new());
    for i in 0..10 {
        optimizer.set_learning_rate(0.01 * (i + 1) as f64);
        let n = if i == 9 { 3 } else { 7 };
        let images = numbers.tensor(&[n, 3, 12, 12])?;
        let labels = Tensor::from_vec((0..n as u32).map(|i| i % 10).collect(), n, &Device::Cpu)?;
        let (loss, correct) = if by_graph {
            let result = step.run(&mut optimizer, &images, &labels)?;
            (result.loss, result.correct)
        } else {
            let (loss, logits) = forward(&images, &labels)?;
            optimizer.backward_step(&loss)?;
            (loss, ops::count_correct(&logits, &labels)?)
        };
        all.extend([flat(&loss)?, flat(&correct.to_dtype(DType::F64)?)?]);
    }
    assert!(!step.is_captured());
    drop(step);
    let state = parameters.state_dict()?;
    let mut names: Vec<_> = state.keys().collect();
    names.sort();
    all.extend(names.into_iter().map(|name| flat(&state[name])).collect::<Result<Vec<_>>>()?);
    Ok(all)
}

#[test]
fn the_same_bits_as_a_plain_step() -> Result<()> {
    let sgd = |vars| SGD::new(vars, SgdConfig { momentum: 0.9, weight_decay: 1e-3, ..SgdConfig::default() });
    assert_eq!(train(true, sgd)?, train(false, sgd)?);
    let adamw = |vars| AdamW::new(vars, AdamWConfig::default());
    assert_eq!(train(true, adamw)?, train(false, adamw)?);
    Ok(())
}
