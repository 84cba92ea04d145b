//! Training and inference speed of the default network on the CPU: one line `mode batch images-per-second` each.
//!
//! `cargo lab bench --kernel` runs this program and, cut into cells at its marks, the same lines in the notebook
//! kernel.

// %%
use cifar_lab::prelude::*;
use std::time::Instant;

/// The shortest measurement, so that the clock's resolution and short interruptions matter little.
const SECONDS: f64 = 0.4;

/// Images per second of `step`, which computes `batch` of them.
fn rate(batch: usize, mut step: impl FnMut() -> Result<()>) -> Result<f64> {
    step()?; // Allocates the memory that later ones reuse.
    let (start, mut steps) = (Instant::now(), 0);
    while start.elapsed().as_secs_f64() < SECONDS {
        step()?;
        steps += 1;
    }
    Ok((steps * batch) as f64 / start.elapsed().as_secs_f64())
}

/// The network's forward pass, one operation after another as a learner writes it.
fn layer_by_layer(vb: &VarBuilder, images: &Tensor, train: bool) -> Result<Tensor> {
    let channels: [usize; 5] = [3, 32, 64, 128, 256];
    let same = Conv2dConfig { padding: 1, ..Default::default() };
    let mut x = images.clone();
    for i in 1..5 {
        let conv = conv2d(channels[i - 1], channels[i], 3, same, vb.pp(format!("conv{i}")))?;
        let bn = batch_norm2d(channels[i], BatchNormConfig::default(), vb.pp(format!("bn{i}")))?;
        x = max_pool2d(&relu(&bn.forward_t(&conv.forward(&x)?, train)?)?, 2, 2)?;
    }
    x = relu(&linear(1024, 512, vb.pp("fc1"))?.forward(&flatten(&x)?)?)?;
    x = relu(&linear(512, 128, vb.pp("fc2"))?.forward(&x)?)?;
    Ok(linear(128, 10, vb.pp("fc3"))?.forward(&x)?)
}

fn main() -> Result<()> {
    // %%
    let parameters: Parameters = Parameters::new(0);
    let vb: VarBuilder<'static> = parameters.var_builder(&Device::Cpu);
    let net: Net = Net::new(&NetConfig::default(), vb.clone())?;
    let settings: SgdConfig =
        SgdConfig { learning_rate: 1e-3, momentum: 0.9, weight_decay: 1e-3, ..Default::default() };
    let mut sgd: SGD = SGD::new(parameters.trainable(), settings)?;

    // %%
    for batch in [32, 128, 512] {
        let images = Tensor::randn(0f32, 1f32, (batch, 3, 32, 32), &Device::Cpu)?;
        let labels = Tensor::zeros(batch, DType::U32, &Device::Cpu)?;
        let training = rate(batch, || {
            let loss = cross_entropy(&net.forward_t(&images, true)?, &labels)?;
            Ok(sgd.step(&loss.backward()?)?)
        })?;
        println!("training {batch} {training:.0}");
        let training = rate(batch, || {
            let loss = cross_entropy(&layer_by_layer(&vb, &images, true)?, &labels)?;
            Ok(sgd.step(&loss.backward()?)?)
        })?;
        println!("training-layer-by-layer {batch} {training:.0}");
        let inference = rate(batch, || Ok(net.forward_t(&images, false).map(drop)?))?;
        println!("inference {batch} {inference:.0}");
    }
    Ok(())
}
