//! One training step of the default network, then its parameters: one line `name index value` each.
//!
//! The notebook kernel's test builds the network in one cell, the batch in a second, and makes the step in a third;
//! it must print the same numbers as this compiled program. If each cell had its own copy of candle, it would not.

use cifar_lab::prelude::*;

/// The number of values printed per parameter, spread over the whole tensor.
const SAMPLES: usize = 16;

fn main() -> Result<()> {
    let parameters: Parameters = Parameters::new(5);
    let net: Net = Net::new(&NetConfig::default(), parameters.var_builder(&Device::Cpu))?;

    let data: Cifar10 = Cifar10::stand_in(5, 64, 10);
    let batch: Batch = DataLoader::new(&data.train, &Device::Cpu).batch_size(8).shuffle(5).first_batch()?;

    let mut sgd: SGD = SGD::new(parameters.trainable(), SgdConfig { learning_rate: 0.1, ..Default::default() })?;
    let loss = cross_entropy(&net.forward_t(&batch.images, true)?, &batch.labels)?;
    sgd.step(&loss.backward()?)?;

    for (name, var) in parameters.named() {
        let values = var.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        for index in (0..values.len()).step_by(values.len().div_ceil(SAMPLES)) {
            println!("{name} {index} {}", values[index]);
        }
    }
    Ok(())
}
