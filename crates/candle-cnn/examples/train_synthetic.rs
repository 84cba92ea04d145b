//! A complete training on generated images: `cargo run --release --example train_synthetic`.
//!
//! Each class is a bright square in one of the four quarters of a noisy image; a small network learns to classify them.

use candle_cnn::layers::{BatchNormConfig, Conv2dConfig, Flatten, MaxPool2d, Relu, Sequential};
use candle_cnn::layers::{batch_norm2d, conv2d, linear};
use candle_cnn::optim::{SGD, SgdConfig};
use candle_cnn::{ops, parameters::Parameters, random};
use candle_core::{Device, Result, Tensor};
use candle_nn::{ModuleT, Optimizer};
use rand::Rng;

const SIDE: usize = 16;
const CLASSES: usize = 4;
const BATCH: usize = 32;

/// A batch of pictures `[N, 1, 16, 16]` and their labels `[N]`.
fn batch(seed: u64, step: u64) -> Result<(Tensor, Tensor)> {
    let mut random = random::stream(seed, "pictures", &[step]);
    let labels: Vec<u32> = (0..BATCH).map(|_| random.random_range(0..CLASSES as u32)).collect();
    let mut pictures = Vec::with_capacity(BATCH * SIDE * SIDE);
    for &label in &labels {
        for pixel in 0..SIDE * SIDE {
            let quarter = pixel / SIDE / (SIDE / 2) * 2 + pixel % SIDE / (SIDE / 2);
            let signal = if quarter == label as usize { 0.5 } else { 0.0 };
            pictures.push(signal + random.random::<f32>());
        }
    }
    let device = Device::Cpu;
    Ok((Tensor::from_vec(pictures, (BATCH, 1, SIDE, SIDE), &device)?, Tensor::from_vec(labels, BATCH, &device)?))
}

fn main() -> Result<()> {
    let parameters = Parameters::new(7);
    let vb = parameters.var_builder(&Device::Cpu);
    let same = Conv2dConfig { padding: 1, ..Default::default() };
    let network = Sequential::new()
        .add(conv2d(1, 8, 3, same, vb.pp("conv1"))?)
        .add(batch_norm2d(8, BatchNormConfig::default(), vb.pp("bn1"))?)
        .add(Relu)
        .add(MaxPool2d::new(2, 2))
        .add(Flatten)
        .add(linear(8 * SIDE / 2 * SIDE / 2, CLASSES, vb.pp("fc"))?);
    let config = SgdConfig { learning_rate: 0.01, momentum: 0.9, ..Default::default() };
    let mut sgd = SGD::new(parameters.trainable(), config)?;
    for step in 0..60 {
        let (pictures, labels) = batch(1, step)?;
        let loss = ops::cross_entropy(&network.forward_t(&pictures, true)?, &labels)?;
        sgd.backward_step(&loss)?;
        if step % 10 == 0 {
            println!("step {step}: loss {:.4}", loss.to_scalar::<f32>()?);
        }
    }
    let (pictures, labels) = batch(2, 0)?;
    let found = network.forward_t(&pictures, false)?.argmax(1)?;
    let right = found.eq(&labels)?.to_dtype(candle_core::DType::U32)?.sum_all()?.to_scalar::<u32>()?;
    println!("{right} of {BATCH} new images classified correctly");
    Ok(())
}
