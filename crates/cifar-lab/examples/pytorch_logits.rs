//! Our half of `tests/with_pytorch.py`: `cargo run --example pytorch_logits CIFAR10_FOLDER WORK_FOLDER`.
//!
//! Reads `theirs.pth`, which PyTorch wrote, and writes what the network says of the first 1,000 test pictures
//! (`theirs_here.f32`) and the weights again (`theirs_again.pth`); then trains a network for a few steps and writes its
//! weights (`ours.pth`) and what it says (`ours.f32`).

use std::path::Path;

use candle_cnn::optim::{SGD, SgdConfig};
use candle_cnn::parameters::Parameters;
use cifar_lab::candle_core::Device;
use cifar_lab::candle_nn::{ModuleT, Optimizer};
use cifar_lab::checkpoint::{ModelCard, load_pth, save_pth};
use cifar_lab::dataset::Cifar10;
use cifar_lab::loader::DataLoader;
use cifar_lab::model::{Net, NetConfig};
use cifar_lab::transform::Normalize;

const IMAGES: usize = 1000;
/// Enough steps that all running statistics have changed and logits differ between images.
const STEPS: usize = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [data, folder] = arguments.as_slice() else { return Err("usage: pytorch_logits CIFAR10 FOLDER".into()) };
    let (data, folder) = (Cifar10::from_folder(data)?, Path::new(folder));
    let test =
        DataLoader::new(&data.test.first(IMAGES)?, &Device::Cpu).batch_size(100).normalize(&Normalize::default());
    let card = ModelCard { network: Some(NetConfig::default()), ..ModelCard::new(&test) };

    let parameters = Parameters::new(0);
    let net = Net::new(&NetConfig::default(), parameters.var_builder(&Device::Cpu))?;
    load_pth(&parameters, folder.join("theirs.pth"))?;
    write_logits(&net, &test, &folder.join("theirs_here.f32"))?;
    save_pth(&parameters, folder.join("theirs_again.pth"), &card)?;

    let parameters = Parameters::new(1);
    let net = Net::new(&NetConfig::default(), parameters.var_builder(&Device::Cpu))?;
    let train = DataLoader::new(&data.train, &Device::Cpu).shuffle(1).normalize(&Normalize::default());
    let mut sgd = SGD::new(parameters.trainable(), SgdConfig { learning_rate: 5e-2, ..SgdConfig::default() })?;
    for batch in train.epoch(0).take(STEPS) {
        let batch = batch?;
        let loss = candle_cnn::ops::cross_entropy(&net.forward_t(&batch.images, true)?, &batch.labels)?;
        sgd.step(&loss.backward()?)?;
    }
    write_logits(&net, &test, &folder.join("ours.f32"))?;
    save_pth(&parameters, folder.join("ours.pth"), &card)?;
    Ok(())
}

/// The logits [N, 10] as little-endian f32.
fn write_logits(net: &Net, loader: &DataLoader, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut bytes = Vec::new();
    for batch in loader.epoch(0) {
        let logits = net.forward_t(&batch?.images, false)?.flatten_all()?.to_vec1::<f32>()?;
        bytes.extend(logits.into_iter().flat_map(f32::to_le_bytes));
    }
    Ok(std::fs::write(path, bytes)?)
}
