//! The same bits with any number of threads, after a run, and with AVX2 as with AVX-512.

mod support;

use candle_cnn::layers::{BatchNormConfig, Conv2dConfig, ConvBlock, Flatten, Relu, Sequential};
use candle_cnn::layers::{batch_norm2d, conv2d, linear};
use candle_cnn::optim::{SGD, SgdConfig};
use candle_cnn::{ops, parameters::Parameters};
use candle_core::{Device, Result, Tensor};
use candle_nn::{ModuleT, Optimizer};
use support::Numbers;

/// Three steps, then an inference: all parameters and the logits, bit by bit.
fn train(fused: bool) -> Result<Vec<u32>> {
    let parameters = Parameters::new(5);
    let vb = parameters.var_builder(&Device::Cpu);
    let same = Conv2dConfig { padding: 1, ..Default::default() };
    let mut net = Sequential::new();
    for (i, (inputs, outputs)) in [(3, 20), (20, 33)].into_iter().enumerate() {
        let conv = conv2d(inputs, outputs, 3, same, vb.pp(format!("conv{i}")))?;
        let bn = batch_norm2d(outputs, BatchNormConfig::default(), vb.pp(format!("bn{i}")))?;
        net = if fused {
            net.add(ConvBlock::new(conv, bn))
        } else {
            // A closure is no layer that `Sequential` knows, so nothing is fused.
            net.add(conv).add(bn).add(Relu).add(|x: &Tensor| ops::max_pool2d(x, 2, 2))
        };
    }
    let net = net.add(Flatten).add(linear(33 * 9, 70, vb.pp("fc1"))?).add(Relu).add(linear(70, 10, vb.pp("fc2"))?);
    let config = SgdConfig { learning_rate: 0.1, momentum: 0.9, weight_decay: 1e-3, ..Default::default() };
    let mut sgd = SGD::new(parameters.trainable(), config)?;
    let mut numbers = Numbers::new(6);
    let mut bits = Vec::new();
    for _ in 0..3 {
        let x = numbers.tensor(&[37, 3, 12, 12])?;
        let labels = Tensor::from_vec((0..37u32).map(|i| i % 10).collect(), 37, &Device::Cpu)?;
        let loss = ops::cross_entropy(&net.forward_t(&x, true)?, &labels)?;
        sgd.backward_step(&loss)?;
        bits.push(loss.to_scalar::<f32>()?.to_bits());
    }
    for var in parameters.trainable() {
        bits.extend(var.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits));
    }
    let logits = net.forward_t(&numbers.tensor(&[5, 3, 12, 12])?, false)?;
    bits.extend(logits.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits));
    Ok(bits)
}

#[test]
fn the_number_of_threads_changes_no_bit() -> Result<()> {
    for fused in [true, false] {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
            pool.install(|| train(fused))
        };
        let one = run(1)?;
        for threads in [1, 2, 3, 5] {
            assert!(run(threads)? == one, "fused {fused}, {threads} threads");
        }
    }
    Ok(())
}

/// For the test below, which runs it in processes of their own: the instruction set is chosen once.
#[test]
#[ignore = "run by avx2_and_avx512_give_the_same_bits"]
fn print_bits() -> Result<()> {
    let sum = |bits: Vec<u32>| bits.iter().fold(0u64, |sum, &bits| sum.rotate_left(7) ^ u64::from(bits));
    println!("bits {:?} {:x} {:x}", candle_cnn::instruction_set(), sum(train(true)?), sum(train(false)?));
    Ok(())
}

#[test]
fn avx2_and_avx512_give_the_same_bits() {
    if candle_cnn::instruction_set() != candle_cnn::InstructionSet::Avx512 {
        return; // Nothing to compare on this machine.
    }
    let run = |set: &str| {
        let mut command = std::process::Command::new(std::env::current_exe().expect("this test's path"));
        command.args(["--exact", "print_bits", "--ignored", "--nocapture"]).env("CANDLE_CNN_ISA", set);
        let output = command.output().expect("a process");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let bits = text.split_once("bits ").expect("bits").1;
        bits.split_whitespace().take(3).map(str::to_string).collect::<Vec<_>>()
    };
    let (avx2, avx512) = (run("avx2"), run("avx512"));
    assert_eq!((avx2[0].as_str(), avx512[0].as_str()), ("Avx2", "Avx512"));
    assert_eq!(avx2[1..], avx512[1..]);
}
