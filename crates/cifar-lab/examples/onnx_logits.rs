//! Our half of `tests/with_onnxruntime.py`: `cargo run --example onnx_logits WORK_FOLDER [CIFAR10_FOLDER]`.
//!
//! Writes each of `tests/support/onnx_networks.rs` as `odd/NAME.onnx`, with the images that it was asked about, and
//! what it said of them, as `NAME.images.f32` and `NAME.f32`.
//!
//! With CIFAR-10 it also trains the original's network and a `Sequential` for a few steps, and writes each as ONNX with
//! what it says of the first 1,000 test pictures: `net.onnx` and `net.f32`, `sequential.onnx` and `sequential.f32`; and
//! the pictures, `images.f32`.

use std::path::Path;

#[allow(dead_code)] // Unit tests cover networks that can't be written.
#[path = "../tests/support/onnx_networks.rs"]
mod onnx_networks;

use candle_cnn::layers::{Conv2dConfig, Dropout, Flatten, MaxPool2d, Relu, Sequential, batch_norm2d, conv2d, linear};
use candle_cnn::optim::{SGD, SgdConfig};
use candle_cnn::parameters::Parameters;
use cifar_lab::candle_core::{Device, Tensor};
use cifar_lab::candle_nn::{ModuleT, Optimizer};
use cifar_lab::checkpoint::{ModelCard, save_onnx};
use cifar_lab::dataset::Cifar10;
use cifar_lab::loader::DataLoader;
use cifar_lab::model::{Net, NetConfig};
use cifar_lab::transform::Normalize;

const IMAGES: usize = 1000;
/// Enough steps that all running statistics have changed and logits differ between images.
const STEPS: usize = 50;

/// Those of no trained network.
const FEW_IMAGES: usize = 7;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [folder] => write_odd(&Path::new(folder).join("odd")),
        [folder, data] => {
            write_odd(&Path::new(folder).join("odd"))?;
            write_trained(Path::new(folder), &Cifar10::from_folder(data)?)
        }
        _ => Err("usage: onnx_logits FOLDER [CIFAR10]".into()),
    }
}

fn write_odd(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all(folder)?;
    for case in onnx_networks::all()? {
        let (channels, height, width) = case.shape;
        let images = Tensor::randn(0f32, 1.0, (FEW_IMAGES, channels, height, width), &Device::Cpu)?;
        let card = ModelCard { image_shape: case.shape, ..ModelCard::default() };
        save_onnx(&case, folder.join(format!("{}.onnx", case.name)), &card, &Device::Cpu)?;
        write(&images, &folder.join(format!("{}.images.f32", case.name)))?;
        write(&case.forward_t(&images, false)?, &folder.join(format!("{}.f32", case.name)))?;
    }
    Ok(())
}

fn write_trained(folder: &Path, data: &Cifar10) -> Result<(), Box<dyn std::error::Error>> {
    let test = DataLoader::new(&data.test, &Device::Cpu).batch_size(IMAGES).normalize(&Normalize::default());
    let images = test.first_batch()?.images;
    write(&images, &folder.join("images.f32"))?;
    let card = ModelCard::new(&test);

    let parameters = Parameters::new(0);
    let net = Net::new(&NetConfig::default(), parameters.var_builder(&Device::Cpu))?;
    train(&net, &parameters, data)?;
    save_onnx(&net, folder.join("net.onnx"), &card, &Device::Cpu)?;
    write(&net.forward_t(&images, false)?, &folder.join("net.f32"))?;

    let parameters = Parameters::new(0);
    let vb = parameters.var_builder(&Device::Cpu);
    let strided = Conv2dConfig { padding: 2, stride: 2, ..Conv2dConfig::default() };
    let grouped = Conv2dConfig { dilation: 2, groups: 4, ..Conv2dConfig::default() };
    let net = Sequential::new()
        .add(conv2d(3, 16, 5, strided, vb.pp("first"))?)
        .add(batch_norm2d(16, 1e-3, vb.pp("norm"))?)
        .add(Relu)
        .add(conv2d(16, 8, 3, grouped, vb.pp("second"))?)
        .add(MaxPool2d::new(3, 2))
        .add(Flatten)
        .add(Dropout::new(0.1, 0)?)
        .add(linear(8 * 5 * 5, 10, vb.pp("last"))?);
    train(&net, &parameters, data)?;
    save_onnx(&net, folder.join("sequential.onnx"), &card, &Device::Cpu)?;
    write(&net.forward_t(&images, false)?, &folder.join("sequential.f32"))?;
    Ok(())
}

fn train(net: &impl ModuleT, parameters: &Parameters, data: &Cifar10) -> Result<(), Box<dyn std::error::Error>> {
    let loader = DataLoader::new(&data.train, &Device::Cpu).shuffle(1).normalize(&Normalize::default());
    let mut sgd = SGD::new(parameters.trainable(), SgdConfig { learning_rate: 5e-2, ..SgdConfig::default() })?;
    for batch in loader.epoch(0).take(STEPS) {
        let batch = batch?;
        let loss = candle_cnn::ops::cross_entropy(&net.forward_t(&batch.images, true)?, &batch.labels)?;
        sgd.step(&loss.backward()?)?;
    }
    Ok(())
}

/// A tensor's values as little-endian f32.
fn write(tensor: &Tensor, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    Ok(std::fs::write(path, values.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>())?)
}
