//! Our half of `tests/with_saved_files.py`: `cargo run --example load_pth FROM TO`.
//!
//! Loads each `.pth` of a folder into a small network, as a user would, and saves that; or writes the error. Beside a file,
//! `NAME.keys` says under which keys its state dict is, and `NAME.prefix` what to take off its names.

use std::fs;
use std::path::Path;

use candle_cnn::parameters::Parameters;
use cifar_lab::candle_core::Device;
use cifar_lab::checkpoint::{ModelCard, load_pth, read_pth, save_pth};
use cifar_lab::error::Result;
use cifar_lab::model::{Net, NetConfig};

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = arguments.as_slice() else { return Err("usage: load_pth FROM TO".into()) };
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "pth") {
            let target = Path::new(to).join(path.file_name().ok_or("no name")?);
            match load(&path) {
                Ok(parameters) => save_pth(&parameters, target, &ModelCard::default())?,
                Err(error) => fs::write(target.with_extension("error"), error.to_string())?,
            }
        }
    }
    Ok(())
}

fn load(path: &Path) -> Result<Parameters> {
    let config = NetConfig { image_size: 8, channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
    let parameters = Parameters::new(0);
    Net::new(&config, parameters.var_builder(&Device::Cpu))?;
    let beside = |extension: &str| fs::read_to_string(path.with_extension(extension)).ok();
    let (keys, prefix) = (beside("keys"), beside("prefix"));
    if keys.is_none() && prefix.is_none() {
        load_pth(&parameters, path)?;
        return Ok(parameters);
    }
    let keys: Vec<&str> = keys.iter().flat_map(|keys| keys.lines()).collect();
    let prefix = prefix.unwrap_or_default();
    let renamed = |name: String| name.strip_prefix(prefix.trim_end()).map(str::to_string).unwrap_or(name);
    let tensors = read_pth(path, &keys)?.into_iter().map(|(name, tensor)| (renamed(name), tensor));
    parameters.load_state_dict(&tensors.collect())?;
    Ok(parameters)
}
