//! Our half of `tests/with_onnxruntime.py`: `cargo run --example onnx_logits WORK_FOLDER`.
//!
//! Writes each of `tests/support/onnx_networks.rs` as `NAME.onnx`, with the images that it was asked about, and what it
//! said of them, as `NAME.images.f32` and `NAME.f32`.

use std::path::Path;

#[allow(dead_code)] // Unit tests cover networks that can't be written.
#[path = "../tests/support/onnx_networks.rs"]
mod onnx_networks;

use cifar_lab::candle_core::{Device, Tensor};
use cifar_lab::candle_nn::ModuleT;
use cifar_lab::checkpoint::{ModelCard, save_onnx};

const IMAGES: usize = 7;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: onnx_logits FOLDER")?;
    let folder = Path::new(&folder);
    for case in onnx_networks::all()? {
        let (channels, height, width) = case.shape;
        let images = Tensor::randn(0f32, 1.0, (IMAGES, channels, height, width), &Device::Cpu)?;
        let card = ModelCard { image_shape: case.shape, ..ModelCard::default() };
        save_onnx(&case, folder.join(format!("{}.onnx", case.name)), &card, &Device::Cpu)?;
        write(&images, &folder.join(format!("{}.images.f32", case.name)))?;
        write(&case.forward_t(&images, false)?, &folder.join(format!("{}.f32", case.name)))?;
    }
    Ok(())
}

/// A tensor's values as little-endian f32.
fn write(tensor: &Tensor, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    Ok(std::fs::write(path, values.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>())?)
}
