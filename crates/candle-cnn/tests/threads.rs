//! The same bits with any number of threads, after a run, and with AVX2 as with AVX-512; tensors that go from thread to
//! thread.

mod support;

use candle_cnn::optim::{Muon, MuonConfig, SGD, SgdConfig};
use candle_cnn::{ops, parameters::Parameters};
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{ModuleT, Optimizer};
use support::{Numbers, small_network};

/// Three steps, then an inference: all parameters and the logits, bit by bit.
fn train(fused: bool) -> Result<Vec<u32>> {
    let parameters = Parameters::new(5);
    let net = small_network([20, 33], &parameters, &Device::Cpu, fused)?;
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

/// candle's products of matrices run in Muon's step.
#[test]
fn the_number_of_threads_changes_no_bit_of_muon() -> Result<()> {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
        pool.install(|| -> Result<Vec<u32>> {
            let mut numbers = Numbers::new(5);
            let weights = vec![numbers.var(&[96, 64, 3, 3])?, numbers.var(&[300, 200])?];
            let mut muon = Muon::new(weights.clone(), MuonConfig::default())?;
            for _ in 0..2 {
                let of = |weight: &Var, numbers: &mut Numbers| {
                    (weight.as_tensor() * numbers.tensor(weight.dims())?)?.sum_all()
                };
                muon.backward_step(&(of(&weights[0], &mut numbers)? + of(&weights[1], &mut numbers)?)?)?;
            }
            let values = weights.iter().map(|weight| weight.flatten_all()?.to_vec1::<f32>());
            Ok(values.collect::<Result<Vec<_>>>()?.concat().into_iter().map(f32::to_bits).collect())
        })
    };
    let one = run(1)?;
    for threads in [2, 3, 5] {
        assert!(run(threads)? == one, "{threads} threads");
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

/// Tensors that threads make side by side and hand to each other are never taken for another candle's.
#[test]
fn threads_raise_no_alarm() -> Result<()> {
    let shared = Var::ones(64, DType::F32, &Device::Cpu)?;
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (send, shared) = (send.clone(), shared.clone());
            scope.spawn(move || {
                for _ in 0..500 {
                    let y = ops::relu(&shared).and_then(|y| ops::relu(&(y + 1.0)?));
                    send.send(y.and_then(|y| ops::relu(&y))).unwrap();
                }
            });
        }
        drop(send);
        receive.iter().try_for_each(|y| ops::relu(&y?).map(drop))
    })
}
