// The code of crates/cifar-lab/examples/one_step.rs as cells: the network in one, the batch in a second, the step in a third.
// `// %%` starts a cell, as in the percent format of editors.
// %%
:dep cifar-lab = { path = "../crates/cifar-lab" }
use cifar_lab::prelude::*;
// %%
let parameters: Parameters = Parameters::new(5);
let net: Net = Net::new(&NetConfig::default(), parameters.var_builder(&Device::Cpu))?;
// %%
let data: Cifar10 = Cifar10::stand_in(5, 64, 10);
let batch: Batch = DataLoader::new(&data.train, &Device::Cpu).batch_size(8).shuffle(5).first_batch()?;
// %%
// Only uses up tensor ids: otherwise duplicates would happen not to meet in the backward pass.
let untrained: Tensor = net.forward_t(&batch.images, false)?;
let mut sgd: SGD = SGD::new(parameters.trainable(), SgdConfig { learning_rate: 0.1, ..Default::default() })?;
let loss: Tensor = cross_entropy(&net.forward_t(&batch.images, true)?, &batch.labels)?;
sgd.step(&loss.backward()?)?;
// %%
for (name, var) in parameters.named() {
    let values = var.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    for index in (0..values.len()).step_by(values.len().div_ceil(16)) {
        println!("{name} {index} {}", values[index]);
    }
}
