//! Loading and training on a GPU; each says "skipped: no GPU" where there is none.
#![cfg(feature = "cuda")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use candle_cnn::layers::{Dropout, Flatten, Linear, Sequential, linear};
use candle_cnn::ops::flatten;
use candle_cnn::optim::{SGD, SgdConfig};
use candle_cnn::parameters::Parameters;
use candle_core::{Device, Tensor, Var};
use candle_nn::{Module, ModuleT, Optimizer};
use cifar_lab::dataset::Cifar10;
use cifar_lab::error::Result;
use cifar_lab::evaluate::evaluate;
use cifar_lab::loader::{Batch, DataLoader};
use cifar_lab::model::{Net, NetConfig};
use cifar_lab::training::{Status, Trainer};
use cifar_lab::transform::{Normalize, RandomCrop, RandomHorizontalFlip};
use support::gpu;

#[test]
fn batches_have_the_values_of_the_cpu() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let data = Cifar10::stand_in(0, 100, 0).train;
    let values = |batch: Batch| -> Result<_> {
        Ok((batch.images.flatten_all()?.to_vec1::<f32>()?, batch.labels.to_vec1::<u32>()?, batch.indices))
    };
    let epoch = |loader: &DataLoader| loader.epoch(1).map(|batch| values(batch?)).collect::<Result<Vec<_>>>();
    let loader = |device: &Device| DataLoader::new(&data, device).batch_size(32).normalize(&Normalize::default());
    assert!(epoch(&loader(&gpu))? == epoch(&loader(&Device::Cpu))?, "as they are");
    let changed = |device| {
        let (flip, crop) = (RandomHorizontalFlip { p: 0.5 }, RandomCrop { padding: 4 });
        loader(device).shuffle(3).augment(flip).augment(crop)
    };
    assert!(epoch(&changed(&gpu))? == epoch(&changed(&Device::Cpu))?, "shuffled and changed");
    // Two moves can't be put together: batch by batch, where dividing by 255 may round otherwise.
    let twice = |device| changed(device).augment(RandomCrop { padding: 2 });
    for (found, wanted) in epoch(&twice(&gpu))?.iter().zip(epoch(&twice(&Device::Cpu))?) {
        assert!(found.0.iter().zip(&wanted.0).all(|(a, b)| (a - b).abs() <= 1e-6) && found.2 == wanted.2);
    }
    Ok(())
}

/// Losses of two epochs, the last batch of each a short one, and the last layer's bias.
fn train(device: &Device, by_graph: bool) -> Result<(Vec<f64>, Vec<f32>)> {
    let data = Cifar10::stand_in(3, 75, 10);
    let parameters = Parameters::new(3);
    let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
    let net = Net::new(&config, parameters.var_builder(device))?;
    let settings = SgdConfig { learning_rate: 0.05, momentum: 0.9, weight_decay: 1e-3, ..SgdConfig::default() };
    let loader =
        DataLoader::new(&data.train, device).batch_size(16).shuffle(3).augment(RandomHorizontalFlip::default());
    let trainer = Trainer::new(net, SGD::new(parameters.trainable(), settings)?, &loader).epochs(2);
    let trainer = trainer.schedule(|step| 0.05 / (step + 1) as f64).test(&DataLoader::new(&data.test, device));
    let training = trainer.step_graph(by_graph).start()?;
    training.wait()?;
    assert_eq!(training.progress().status, Status::Finished);
    let losses = training.history().epochs.iter().map(|row| row.train_loss).collect();
    Ok((losses, parameters.state_dict()?["fc2.bias"].to_vec1()?))
}

#[test]
fn training_goes_as_on_the_cpu_with_a_graph_and_without() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let (cpu, plain, captured) = (train(&Device::Cpu, false)?, train(&gpu, false)?, train(&gpu, true)?);
    assert!(plain == captured, "{plain:?} {captured:?}");
    for (found, wanted) in plain.0.iter().zip(&cpu.0) {
        assert!((found - wanted).abs() <= 1e-3 * wanted, "{:?} {:?}", plain.0, cpu.0);
    }
    Ok(())
}

/// Dropout draws on the host at each step, so a graph would repeat the first mask; and its masks are the same each time.
#[test]
fn a_network_that_can_t_be_captured_trains_without_a_graph() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let train = |by_graph| -> Result<Vec<f32>> {
        let data = Cifar10::stand_in(3, 96, 0);
        let parameters = Parameters::new(3);
        let vb = parameters.var_builder(&gpu);
        let net = Sequential::new()
            .add(Flatten)
            .add(linear(3 * 32 * 32, 16, vb.pp("fc1"))?)
            .add(Dropout::new(0.5, 3)?)
            .add(linear(16, 10, vb.pp("fc2"))?);
        let loader = DataLoader::new(&data.train, &gpu).batch_size(16);
        let sgd = SGD::new(parameters.trainable(), SgdConfig { learning_rate: 0.05, ..SgdConfig::default() })?;
        Trainer::new(net, sgd, &loader).step_graph(by_graph).start()?.wait()?;
        Ok(parameters.state_dict()?["fc2.bias"].to_vec1()?)
    };
    assert_eq!(train(true)?, train(false)?);
    Ok(())
}

#[test]
fn a_stopped_training_goes_on_with_the_bits_of_an_undisturbed_one() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let data = Cifar10::stand_in(3, 96, 10);
    let start = |folder: &std::path::Path| -> Result<_> {
        let parameters = Parameters::new(3);
        let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
        let net = Net::new(&config, parameters.var_builder(&gpu))?;
        let settings = SgdConfig { learning_rate: 0.05, momentum: 0.9, ..SgdConfig::default() };
        let loader =
            DataLoader::new(&data.train, &gpu).batch_size(16).shuffle(3).augment(RandomHorizontalFlip::default());
        let trainer = Trainer::new(net, SGD::new(parameters.trainable(), settings)?, &loader).epochs(20);
        let trainer = trainer.test(&DataLoader::new(&data.test, &gpu));
        Ok((trainer.folder(folder).resumable(&parameters).start()?, parameters))
    };
    let bias = |parameters: &Parameters| parameters.state_dict()?["fc2.bias"].to_vec1::<f32>();
    let folder = tempfile::tempdir().expect("a folder");
    let (undisturbed, parameters) = start(folder.path())?;
    undisturbed.wait()?;
    let wanted = (undisturbed.history().epochs[19].train_loss, bias(&parameters)?);
    let folder = tempfile::tempdir().expect("a folder");
    let mut stops = 0;
    let (last, parameters) = loop {
        let (training, parameters) = start(folder.path())?;
        training.watch(0.02)?;
        if training.stop().status == Status::Finished {
            break (training, parameters);
        }
        stops += 1;
    };
    println!("stopped {stops} times");
    assert_eq!((last.history().epochs[19].train_loss, bias(&parameters)?), wanted);
    Ok(())
}

/// A training begins and ends with a wait for the whole GPU, which CUDA forbids while a step is captured.
#[test]
fn captures_are_not_disturbed_by_other_trainings() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let wanted = train(&gpu, false)?;
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let others = scope.spawn(|| -> Result<usize> {
            let loader = DataLoader::new(&Cifar10::stand_in(0, 32, 0).train, &gpu);
            let mut count = 0;
            while !done.load(Ordering::Acquire) {
                Trainer::with_loop(&loader, |_| Ok(())).start()?.wait()?;
                count += 1;
            }
            Ok(count)
        });
        for _ in 0..10 {
            assert!(train(&gpu, true)? == wanted);
        }
        done.store(true, Ordering::Release);
        println!("{} other trainings", others.join().expect("no panic")?);
        Ok(())
    })
}

/// A training that has not gone on within this time never does.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two layers that begin the same, get the same and are added: after each step they are the same.
struct Twins(Linear, Linear);

impl ModuleT for Twins {
    fn forward_t(&self, x: &Tensor, _train: bool) -> candle_core::Result<Tensor> {
        let x = flatten(x)?;
        self.0.forward(&x)? + self.1.forward(&x)?
    }
}

#[test]
fn a_snapshot_taken_while_a_training_runs_is_of_one_moment() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let loader = DataLoader::new(&Cifar10::stand_in(0, 64, 0).train, &gpu).batch_size(16);
    for by_graph in [true, false] {
        let parameters = Parameters::new(0);
        let layer = |name| linear(3 * 32 * 32, 10, parameters.var_builder(&gpu).pp(name));
        let twins = Twins(layer("a")?, layer("b")?);
        let weight = |name: &str| parameters.get(name).expect("a parameter");
        for part in ["weight", "bias"] {
            weight(&format!("b.{part}")).set(&weight(&format!("a.{part}")).as_detached_tensor())?;
        }
        let settings = SgdConfig { learning_rate: 1e-3, momentum: 0.9, ..SgdConfig::default() };
        let folder = tempfile::tempdir().expect("a folder");
        let trainer = Trainer::new(twins, SGD::new(parameters.trainable(), settings)?, &loader).epochs(1_000_000);
        let training = trainer.step_graph(by_graph).folder(folder.path()).resumable(&parameters).start()?;
        // Several reads may fall into one break, in which a checkpoint is written.
        let (mut seen, begun) = (Vec::new(), Instant::now());
        while seen.len() < 6 && begun.elapsed() < PATIENCE {
            let state = parameters.state_dict()?;
            let values = |name: &str| state[name].flatten_all()?.to_vec1::<f32>();
            assert!(values("a.weight")? == values("b.weight")?, "of two moments; by graph: {by_graph}");
            seen.push(values("a.bias")?);
            seen.dedup();
            std::thread::sleep(Duration::from_millis(5));
        }
        training.stop();
        training.wait()?;
        assert!(seen.len() == 6, "the training went on: {}", seen.len());
    }
    Ok(())
}

/// How far twins have gone apart, as logits: all are 0 as long as they are the same.
struct Apart(Linear, Linear);

impl ModuleT for Apart {
    fn forward_t(&self, x: &Tensor, _train: bool) -> candle_core::Result<Tensor> {
        let x = flatten(x)?;
        (self.0.forward(&x)? - self.1.forward(&x)?)? * 1e6
    }
}

/// A network doesn't say which training updates it, nor does this one keep checkpoints.
#[test]
fn an_evaluation_while_a_training_runs_is_of_one_moment() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let loader = DataLoader::new(&Cifar10::stand_in(0, 64, 0).train, &gpu).batch_size(16);
    for by_graph in [true, false] {
        let parameters = Parameters::new(0);
        let layer = |name| linear(3 * 32 * 32, 10, parameters.var_builder(&gpu).pp(name));
        let (first, second) = (layer("a")?, layer("b")?);
        let weight = |name: &str| parameters.get(name).expect("a parameter");
        for part in ["weight", "bias"] {
            weight(&format!("b.{part}")).set(&weight(&format!("a.{part}")).as_detached_tensor())?;
        }
        let sgd = SGD::new(parameters.trainable(), SgdConfig { learning_rate: 1e-2, ..SgdConfig::default() })?;
        let trainer = Trainer::new(Twins(first.clone(), second.clone()), sgd, &loader).epochs(1_000_000);
        let training = trainer.step_graph(by_graph).start()?;
        let (mut steps, begun) = (Vec::new(), Instant::now());
        while steps.len() < 6 && begun.elapsed() < PATIENCE {
            let evaluation = evaluate(&Apart(first.clone(), second.clone()), &loader)?;
            let same = evaluation.predictions().iter().all(|prediction| prediction.probability == 0.1);
            assert!(same, "of two moments: loss {}; by graph: {by_graph}", evaluation.loss());
            steps.push((training.progress().epoch, training.progress().step));
            steps.dedup();
            std::thread::sleep(Duration::from_millis(5));
        }
        training.stop();
        training.wait()?;
        assert!(steps.len() == 6, "the training went on: {steps:?}");
    }
    Ok(())
}

/// candle's stream is each thread's own: nothing but waiting puts one thread's work behind another's.
#[test]
fn a_training_finds_and_leaves_what_was_computed() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let sum = Var::from_tensor(&Tensor::new(1f32, &gpu)?)?;
    sum.set(&(sum.as_detached_tensor() + 1.0)?)?;
    let steps = Arc::new(AtomicUsize::new(0));
    let loss = Tensor::new(0.5f32, &Device::Cpu)?;
    let (logits, labels) = (Tensor::new(&[[0.1f32, 0.9]], &Device::Cpu)?, Tensor::new(&[1u32], &Device::Cpu)?);
    let found = Arc::new(Mutex::new(None));
    let (own_sum, own_steps, own_found) = (sum.clone(), steps.clone(), found.clone());
    let loader = DataLoader::new(&Cifar10::stand_in(0, 32, 0).train, &Device::Cpu);
    let training = Trainer::with_loop(&loader, move |run| {
        // Read after the training: here it would be waiting for the sum.
        *own_found.lock().expect("no panic") = Some(own_sum.as_detached_tensor().copy()?);
        loop {
            let stopped = own_steps.load(Ordering::Acquire) >= 100 && run.step(&loss, &logits, &labels).is_err();
            own_sum.set(&(own_sum.as_detached_tensor() + 1.0)?)?;
            own_steps.fetch_add(1, Ordering::AcqRel);
            if stopped {
                return Ok(());
            }
        }
    });
    let training = training.start()?;
    let wanted = || 2.0 + steps.load(Ordering::Acquire) as f32;
    let paused = training.pause();
    assert_eq!(sum.to_vec0::<f32>()?, wanted(), "in a pause");
    drop(paused);
    training.stop();
    training.wait()?;
    assert_eq!(training.progress().status, Status::Finished);
    assert_eq!(sum.to_vec0::<f32>()?, wanted(), "at the end");
    let found = found.lock().expect("no panic").take().expect("a copy");
    assert_eq!(found.to_vec0::<f32>()?, 2.0, "at the start");
    Ok(())
}

#[test]
fn threads_share_the_data_set_on_the_gpu_and_a_batch_outlives_it() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let data = Cifar10::stand_in(0, 64, 0).train;
    let first = |loader: &DataLoader| loader.epoch(0).next().expect("a batch");
    let wanted = first(&DataLoader::new(&data, &Device::Cpu).batch_size(64))?.images.flatten_all()?.to_vec1::<f32>()?;
    let (made, dropped) = (Barrier::new(2), Barrier::new(2));
    let loader = DataLoader::new(&data, &gpu).batch_size(64);
    // This thread puts the pictures there, the other one reads them.
    first(&loader)?;
    let found = std::thread::scope(|scope| {
        let other = scope.spawn(|| -> Result<_> {
            let batch = first(&loader);
            drop(loader);
            made.wait();
            dropped.wait();
            Ok(batch?.images.flatten_all()?.to_vec1::<f32>()?)
        });
        made.wait();
        drop(data);
        let freed = gpu.synchronize();
        dropped.wait();
        freed?;
        other.join().expect("no panic")
    })?;
    assert!(found == wanted);
    Ok(())
}
