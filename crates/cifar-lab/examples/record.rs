//! Trains the network of the CIFAR-10 record by its recipe (Jordan's `airbench94_muon`), with its sizes as options.
//!
//! `cargo run --release -p cifar-lab --example record -- CIFAR10_FOLDER [OPTION…]` (`--help` lists them)
//!
//! `record_pytorch.py` beside this file does the same with PyTorch.

use clap::Parser;
use std::path::PathBuf;
use std::time::Instant;

use candle_cnn::ops::{CrossEntropyConfig, Reduction, cross_entropy_with};
use cifar_lab::prelude::*;

/// Trains the network of the CIFAR-10 record.
#[derive(Parser)]
struct Options {
    /// CIFAR-10 in any of its layouts
    folder: PathBuf,
    /// Epochs
    #[arg(long, default_value_t = 8)]
    epochs: usize,
    /// Training images in a batch
    #[arg(long, default_value_t = 2000)]
    batch_size: usize,
    /// Output channels of the three groups
    #[arg(long, value_delimiter = ',', default_value = "64,256,256")]
    channels: Vec<usize>,
    /// Training images
    #[arg(long, default_value_t = 50_000)]
    images: usize,
    /// Seed of weights, order and changes
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// The epochs in which the whitening convolution's bias is trained.
const WHITENING_BIAS_EPOCHS: usize = 3;
/// The images from which the whitening filters are made.
const WHITENING_IMAGES: usize = 5000;

/// The recipe's optimizer: Muon for the convolutions, SGD for biases and head. The groups are the convolutions, the
/// whitening convolution's bias, the batch norms' biases and the head.
fn optimizer(net: &AirbenchNet, batch_size: usize) -> Result<Muon> {
    let groups = net.parameters()?;
    let muon = MuonConfig {
        learning_rate: 0.24,
        momentum: 0.6,
        steps: 3,
        scaling: MuonScaling::Weights,
        ..MuonConfig::default()
    };
    // The loss is the batch's sum, so the decay grows with it.
    let decay = 2e-6 * batch_size as f64;
    let sgd = |vars: Vec<Var>, learning_rate: f64| ParameterGroup {
        vars,
        config: SgdConfig {
            learning_rate,
            momentum: 0.85,
            nesterov: true,
            weight_decay: decay / learning_rate,
            ..SgdConfig::default()
        },
    };
    let convolutions = ParameterGroup { vars: groups.filters, config: muon };
    let others =
        vec![sgd(vec![groups.whitening_bias], 0.053), sgd(groups.norm_biases, 0.053), sgd(vec![groups.head], 0.67)];
    Ok(Muon::with_sgd(vec![convolutions], others)?)
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    candle_cnn::memory::keep_freed();
    let options = Options::parse();
    let data = Cifar10::from_folder(&options.folder)?;
    let train = data.train.first(options.images.min(data.train.len()))?;
    let normalize = Normalize::from(train.channel_statistics());
    let device = Device::Cpu;
    let loader = DataLoader::new(&train, &device)
        .batch_size(options.batch_size)
        .shuffle(options.seed)
        .drop_last(true)
        .augment(AlternatingFlip)
        .augment(RandomTranslation { pixels: 2 })
        .normalize(&normalize);
    let test = DataLoader::new(&data.test, &device).batch_size(500).normalize(&normalize);

    let parameters = Parameters::new(options.seed);
    let config = AirbenchConfig { channels: options.channels.clone(), ..AirbenchConfig::default() };
    let net = AirbenchNet::new(&config, parameters.var_builder(&device))?;
    let begin = Instant::now();
    let some = DataLoader::new(&train, &device).batch_size(WHITENING_IMAGES.min(train.len())).normalize(&normalize);
    net.whiten(&some.first_batch()?.images)?;
    println!("{} parameters; whitening took {:.1} s", parameters.count(), begin.elapsed().as_secs_f64());

    let mut muon = optimizer(&net, options.batch_size)?;
    let rates = muon.learning_rates();
    let loss_config = CrossEntropyConfig { label_smoothing: 0.2, reduction: Reduction::Sum };
    let (steps, bias_steps) = (options.epochs * loader.len(), WHITENING_BIAS_EPOCHS * loader.len());
    let mut seconds = 0.0;
    let mut step = 0;
    for epoch in 0..options.epochs {
        let (begin, mut total, mut images) = (Instant::now(), 0.0, 0);
        for batch in loader.epoch(epoch) {
            let batch = batch?;
            let left = |steps: usize| 1.0 - step as f64 / steps as f64;
            let factors = [left(steps), left(bias_steps).max(0.0), left(steps), left(steps)];
            let rates: Vec<f64> = rates.iter().zip(factors).map(|(rate, factor)| rate * factor).collect();
            muon.set_learning_rates(&rates)?;
            let logits = net.forward_t(&batch.images, true)?;
            let loss = cross_entropy_with(&logits, &batch.labels, loss_config)?;
            muon.backward_step(&loss)?;
            total += f64::from(loss.to_scalar::<f32>()?);
            images += batch.indices.len();
            step += 1;
        }
        let took = begin.elapsed().as_secs_f64();
        seconds += took;
        let accuracy = evaluate(&net, &test)?.accuracy();
        println!(
            "epoch {}: loss {:.4}, test accuracy {:.2} %, {took:.1} s, {:.0} images/s",
            epoch + 1,
            total / images as f64,
            100.0 * accuracy,
            images as f64 / took
        );
    }
    let begin = Instant::now();
    let accuracy = evaluate(&TestTimeViews::new(net), &test)?.accuracy();
    println!(
        "with six views {:.2} % (in {:.1} s); trained in {seconds:.1} s",
        100.0 * accuracy,
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}
