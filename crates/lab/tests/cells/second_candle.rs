// Batches created in a cell that uses nothing of cifar-lab, after a pasted `:dep candle-core`. Such a cell links its own copy of
// candle, whose ids start at 1 again. A training step with one of them must fail with an explanation; candle alone would
// report mismatched shapes, or nothing. There are forty batches, so that some share ids with parameters.
// %%
:dep cifar-lab = { path = "../crates/cifar-lab" }
:dep candle-core = "0.11.1"
// %%
let device: candle_core::Device = candle_core::Device::Cpu;
let mut batches: Vec<candle_core::Tensor> = Vec::new();
for _ in 0..40 {
    batches.push(candle_core::Tensor::ones((2, 3, 32, 32), candle_core::DType::F32, &device)?);
}
// %%
use cifar_lab::prelude::*;
let parameters: Parameters = Parameters::new(5);
let net: Net = Net::new(&NetConfig::default(), parameters.var_builder(&Device::Cpu))?;
let mut sgd: SGD = SGD::new(parameters.trainable(), SgdConfig::default())?;
let labels: Tensor = Tensor::zeros(2, DType::U32, &Device::Cpu)?;
// %%
for images in &batches {
    let loss: Tensor = cross_entropy(&net.forward_t(images, true)?, &labels)?;
    sgd.step(&loss.backward()?)?;
}
println!("nothing was noticed");
