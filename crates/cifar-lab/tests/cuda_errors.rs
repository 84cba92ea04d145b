//! What goes wrong with a GPU, each as a message that says what to do.
//!
//! A driver that is missing, old or at odds with the GPU is had only on candle-cnn's simulated GPU
//! (`crates/candle-cnn/tests/simulated_gpu`), whose variables these tests set; elsewhere they say that they are skipped.
#![cfg(feature = "cuda")]

mod support;

use std::process::Command;

use candle_cnn::optim::{SGD, SgdConfig};
use candle_cnn::parameters::Parameters;
use candle_core::{DType, Tensor};
use candle_nn::Optimizer;
use cifar_lab::dataset::Cifar10;
use cifar_lab::device::{DeviceError, choose_device, describe};
use cifar_lab::error::{Error, Result};
use cifar_lab::loader::DataLoader;
use cifar_lab::model::{Net, NetConfig};
use cifar_lab::training::{Status, Trainer};
use support::gpu;

#[test]
fn a_tensor_that_does_not_fit_is_refused_and_the_next_one_is_not() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    const PIBIBYTE: usize = 1 << 50;
    let error = Error::from(Tensor::zeros(PIBIBYTE, DType::U8, &gpu).expect_err("no GPU has that much"));
    assert!(error.to_string().contains(&DeviceError::OutOfMemory.to_string()), "{error}");
    assert_eq!(Tensor::ones(3, DType::F32, &gpu)?.to_vec1::<f32>()?, [1.0; 3]);
    Ok(())
}

#[test]
fn a_training_that_does_not_fit_ends_with_what_to_do() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    // The first layer's output is 4096 × 32768 × 32 × 32 values of 4 bytes, half a tebibyte.
    let (pictures, channels) = (4096, 32768);
    let train = |config: NetConfig, pictures: usize| {
        let data = Cifar10::stand_in(3, pictures, 0);
        let parameters = Parameters::new(3);
        let net = Net::new(&config, parameters.var_builder(&gpu))?;
        let optimizer = SGD::new(parameters.trainable(), SgdConfig::default())?;
        let loader = DataLoader::new(&data.train, &gpu).batch_size(pictures);
        Trainer::new(net, optimizer, &loader).epochs(1).start()
    };
    let large = train(NetConfig { channels: vec![channels, 1], dense: vec![1], ..NetConfig::default() }, pictures)?;
    let error = large.wait().expect_err("no GPU has that much").to_string();
    assert!(error.contains("no memory") && error.contains("a smaller batch"), "{error}");
    assert!(matches!(large.progress().status, Status::Failed(_)), "{:?}", large.progress().status);
    let small = train(NetConfig { channels: vec![2], dense: vec![2], ..NetConfig::default() }, 16)?;
    small.wait()
}

/// What a notebook is told in a process with these variables: of the GPU asked for, and of the best device.
fn told(variables: &[(&str, &str)]) -> (String, String) {
    let mut command = Command::new(std::env::current_exe().expect("this program's path"));
    command.args(["--exact", "tell", "--ignored", "--nocapture"]).envs(variables.iter().copied());
    let output = command.output().expect("this program runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let line = |start| text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_else(|| panic!("{text}"));
    (line("asked for: ").to_string(), line("best: ").to_string())
}

#[test]
#[ignore = "what `told` runs in another process"]
fn tell() -> Result<()> {
    println!("\nasked for: {}", choose_device("cuda").map_or_else(|error| error.to_string(), |gpu| describe(&gpu)));
    println!("best: {}", describe(&choose_device("auto")?));
    Ok(())
}

/// The GPU can't be had, in these words, and the CPU is taken and says the same.
fn refused(variable: (&str, &str), words: &str) {
    let (asked, best) = told(&[variable]);
    assert!(asked.contains(words), "{variable:?}: {asked}");
    assert!(
        best.starts_with("CPU") && best.ends_with(&format!("built with CUDA, but {asked}")),
        "{variable:?}: {best}"
    );
}

#[test]
fn a_hidden_gpu_is_named_as_such() {
    if gpu().is_some() {
        refused(("CUDA_VISIBLE_DEVICES", ""), &DeviceError::NoGpu.to_string());
    }
}

#[test]
fn each_fault_of_driver_and_gpu_is_told_apart() {
    if std::env::var_os("SIMULATED_GPU").is_none() {
        return eprintln!("skipped: not on the simulated GPU");
    }
    refused(("SIMULATED_GPU_START", "803"), &DeviceError::NoDriver { code: 803 }.to_string());
    refused(("SIMULATED_GPU_START", "999"), &DeviceError::NoDriver { code: 999 }.to_string());
    refused(("SIMULATED_GPU_DRIVER", "11080"), "too old: it supports CUDA 11.8, but this was compiled with CUDA 1");
    refused(
        ("SIMULATED_GPU_CAPABILITY", "30"),
        "this GPU has compute capability 3.0, but the kernels were compiled for ",
    );
    refused(("SIMULATED_GPU_LOAD", "209"), &DeviceError::Unloadable { code: 209 }.to_string());
    refused(("SIMULATED_GPU_LOAD", "222"), &DeviceError::Unloadable { code: 222 }.to_string());
    let (asked, best) = told(&[]);
    assert!(asked.starts_with("CUDA device 0 (simulated GPU, ") && asked == best, "{asked}\n{best}");
}
