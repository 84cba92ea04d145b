//! The first epoch of the original's training on CIFAR-10 in its binary layout and as an image folder, which contain
//! the same images in a different order: the mean training losses must be close.
//!
//! `cargo run --release -p cifar-lab --example first_epoch BINARY_FOLDER IMAGE_FOLDER`

use cifar_lab::prelude::*;

fn first_epoch(train: &Dataset) -> Result<f64> {
    let parameters = Parameters::new(0);
    let net = Net::new(&NetConfig::default(), parameters.var_builder(&Device::Cpu))?;
    let settings = SgdConfig { learning_rate: 1e-3, momentum: 0.9, weight_decay: 1e-3, ..Default::default() };
    let loader = DataLoader::new(train, &Device::Cpu).shuffle(0).normalize(&Normalize::default());
    let training = Trainer::new(net, SGD::new(parameters.trainable(), settings)?, &loader).start()?;
    training.wait()?;
    Ok(training.history().epochs[0].train_loss)
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let folders: Vec<String> = std::env::args().skip(1).collect();
    let [binary, images] = folders.as_slice() else {
        return Err("usage: first_epoch BINARY_FOLDER IMAGE_FOLDER (CIFAR-10's binary files, and CIFAR-10 as train/CLASS/*.jpg)".into());
    };
    let losses = [first_epoch(&Cifar10::from_folder(binary)?.train)?, first_epoch(&ImageFolder::open(images)?.train)?];
    println!("binary layout {:.4}, image folder {:.4}", losses[0], losses[1]);
    if (losses[0] - losses[1]).abs() > 0.1 {
        return Err("the losses differ by more than 0.1".into());
    }
    Ok(())
}
