//! A training that is stopped, fails or is started again goes on where it was, to the bit; and what can't be resumed
//! begins anew and says why.

use std::hash::{Hash, Hasher};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use candle_cnn::layers::{Dropout, Flatten, Relu, Sequential, batch_norm2d, conv2d, linear};
use candle_cnn::optim::{AdamW, AdamWConfig, ParameterGroup};
use candle_cnn::random::stream;
use cifar_lab::dataset::{Source, Split};
use cifar_lab::prelude::*;
use cifar_lab::training::Status;
use rand::Rng;

const EPOCHS: usize = 4;
const IMAGES: usize = 72;
const BATCH_SIZE: usize = 16;
/// Steps of an epoch; the last one has fewer images.
const STEPS: usize = 5;

/// Fails or panics at the step with this number, counted over the steps of this process's loss.
#[derive(Clone, Copy, Default)]
struct Fault {
    fails_at: Option<usize>,
    panics_at: Option<usize>,
}

/// Everything that a resumed training could get wrong: batch norm, dropout, augmentation, shuffling, a schedule, AdamW
/// with its counts of steps, and two groups of parameters.
fn start(folder: &Path, fault: Fault, change: impl FnOnce(Setup) -> Setup) -> Result<(Training, Parameters)> {
    let Setup { fresh, epochs, learning_rate, beta1, channels } =
        change(Setup { fresh: false, epochs: EPOCHS, learning_rate: 0.01, beta1: 0.9, channels: 4 });
    let data = Cifar10::stand_in(3, IMAGES, 16);
    let parameters = Parameters::new(3);
    let vb = parameters.var_builder(&Device::Cpu);
    let convolution = Conv2dConfig { padding: 1, stride: 4, ..Conv2dConfig::default() };
    let net = Sequential::new()
        .add(conv2d(3, channels, 3, convolution, vb.pp("conv"))?)
        .add(batch_norm2d(channels, BatchNormConfig::default(), vb.pp("bn"))?)
        .add(Relu)
        .add(Flatten)
        .add(Dropout::new(0.3, 1)?)
        .add(linear(channels * 64, 16, vb.pp("fc1"))?)
        .add(Dropout::new(0.5, 2)?)
        .add(linear(16, 10, vb.pp("fc2"))?);
    let config = AdamWConfig { learning_rate, weight_decay: 0.01, beta1, ..AdamWConfig::default() };
    let (decayed, others): (Vec<Var>, Vec<Var>) = parameters.trainable().into_iter().partition(|var| var.rank() > 1);
    let adamw = AdamW::with_groups(vec![
        ParameterGroup { vars: decayed, config },
        ParameterGroup {
            vars: others,
            config: AdamWConfig { learning_rate: 2.0 * learning_rate, weight_decay: 0.0, ..config },
        },
    ])?;
    let loader = DataLoader::new(&data.train, &Device::Cpu)
        .batch_size(BATCH_SIZE)
        .shuffle(5)
        .augment(RandomHorizontalFlip { p: 0.5 })
        .augment(RandomCrop { padding: 4 });
    let steps = Arc::new(AtomicUsize::new(0));
    let loss = move |logits: &Tensor, labels: &Tensor| {
        let step = steps.fetch_add(1, Ordering::Relaxed) + 1;
        if fault.fails_at == Some(step) {
            candle_core::bail!("the loss is broken");
        }
        assert_ne!(fault.panics_at, Some(step), "a bug in the loss");
        // Slow enough to be stopped in the middle.
        std::thread::sleep(Duration::from_millis(2));
        cross_entropy(logits, labels)
    };
    let mut trainer = Trainer::new(net, adamw, &loader)
        .name("resumed")
        .epochs(epochs)
        .test(&DataLoader::new(&data.test, &Device::Cpu))
        .loss(loss)
        .schedule(Schedule::one_cycle(0.02, epochs * STEPS)?)
        .folder(folder)
        .resumable(&parameters);
    if fresh {
        trainer = trainer.fresh();
    }
    Ok((trainer.start()?, parameters))
}

struct Setup {
    fresh: bool,
    epochs: usize,
    learning_rate: f64,
    beta1: f64,
    channels: usize,
}

/// What must not depend on interruptions: the values' bits, and the records without their times.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// The sum of each tensor's values, which shows where a difference is, and a hash of their bits.
    values: Vec<(String, f64, u64)>,
    rows: Vec<[f64; 4]>,
    step_rows: usize,
}

fn outcome(training: &Training, parameters: &Parameters) -> Result<Outcome> {
    assert_eq!(training.progress().status, Status::Finished);
    let mut values = Vec::new();
    for (name, tensor) in parameters.snapshot()? {
        let numbers = tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let mut hash = std::hash::DefaultHasher::new();
        numbers.iter().for_each(|number| number.to_bits().hash(&mut hash));
        values.push((name, numbers.iter().sum(), hash.finish()));
    }
    let history = training.history();
    let numbers = |option: Option<f64>| option.expect("a number");
    let rows = history.epochs.iter();
    let rows = rows.map(|row| [row.train_loss, row.train_accuracy, numbers(row.test_loss), numbers(row.learning_rate)]);
    Ok(Outcome { values, rows: rows.collect(), step_rows: history.steps.len() })
}

fn undisturbed() -> Result<Outcome> {
    let folder = tempfile::tempdir().unwrap();
    let (training, parameters) = start(folder.path(), Fault::default(), |setup| setup)?;
    training.wait()?;
    outcome(&training, &parameters)
}

#[test]
fn stops_failures_and_panics_change_no_bit() -> Result<()> {
    let wanted = undisturbed()?;
    assert_eq!(wanted.rows.len(), EPOCHS);
    let folder = tempfile::tempdir().unwrap();
    let faults = [
        Fault { fails_at: Some(1), ..Fault::default() },
        Fault { fails_at: Some(STEPS + 3), ..Fault::default() },
        Fault { panics_at: Some(4), ..Fault::default() },
    ];
    for fault in faults {
        let (training, _) = start(folder.path(), fault, |setup| setup)?;
        let error = training.wait().unwrap_err().to_string();
        assert!(error.contains("broken") || error.contains("a bug in the loss"), "{error}");
    }
    // Stopped in the middle of an epoch, wherever that is, until it is done.
    let mut places = Vec::new();
    let (last, parameters) = loop {
        let (training, parameters) = start(folder.path(), Fault::default(), |setup| setup)?;
        training.watch(0.005)?;
        if training.stop().status == Status::Finished {
            break (training, parameters);
        }
        places.push((training.progress().epoch, training.progress().step));
    };
    assert!(places.len() > 2, "it was never stopped: {places:?}");
    assert_eq!(outcome(&last, &parameters)?, wanted, "stopped at {places:?}");
    // The records on disk are whole too.
    let record = RunRecord::read(folder.path())?;
    let losses: Vec<f64> = record.rows.iter().map(|row| row.train_loss).collect();
    assert_eq!(losses, wanted.rows.iter().map(|row| row[0]).collect::<Vec<_>>());
    assert!(folder.path().join("best.safetensors").is_file());
    Ok(())
}

#[test]
fn one_that_still_runs_is_taken_over() -> Result<()> {
    let wanted = undisturbed()?;
    let folder = tempfile::tempdir().unwrap();
    let (first, _) = start(folder.path(), Fault::default(), |setup| setup)?;
    first.watch(0.02)?;
    let (second, parameters) = start(folder.path(), Fault::default(), |setup| setup)?;
    assert_eq!(first.progress().status, Status::Stopped);
    second.wait()?;
    assert_eq!(outcome(&second, &parameters)?, wanted);
    Ok(())
}

#[test]
fn one_that_trains_another_network_is_not_stopped() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (first, _) = start(folder.path(), Fault::default(), |setup| setup)?;
    let error = start(folder.path(), Fault::default(), |setup| Setup { channels: 5, ..setup }).map(drop).unwrap_err();
    assert!(error.to_string().contains("another network; it is still running"), "{error}");
    first.wait()?;
    assert_eq!(first.progress().status, Status::Finished);
    Ok(())
}

#[test]
fn a_loop_that_ended_early_has_finished() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let loader = DataLoader::new(&Cifar10::stand_in(0, 32, 0).train, &Device::Cpu).batch_size(8);
    for told in ["finished: 2 of 9 epochs in ", "finished: 2 of 9 epochs, all of them before"] {
        let parameters = Parameters::new(0);
        let layer = linear(3 * 32 * 32, 10, parameters.var_builder(&Device::Cpu).pp("fc"))?;
        let (net, sgd) =
            (Sequential::new().add(Flatten).add(layer), SGD::new(parameters.trainable(), SgdConfig::default())?);
        let batches = loader.clone();
        let trainer = Trainer::with_loop(&loader, move |run| {
            let mut sgd = run.resume(sgd)?;
            for epoch in run.epochs() {
                for batch in run.batches(&batches, epoch) {
                    let Batch { images, labels, .. } = batch?;
                    let logits = net.forward_t(&images, true)?;
                    let loss = cross_entropy(&logits, &labels)?;
                    sgd.backward_step(&loss)?;
                    run.step(&loss, &logits, &labels)?;
                }
                run.end_epoch(None)?;
                if epoch == 1 {
                    break;
                }
            }
            Ok(())
        });
        let training = trainer.name("early").epochs(9).folder(folder.path()).resumable(&parameters).start()?;
        training.wait()?;
        let progress = training.progress().to_string();
        assert!(progress.starts_with(told), "{progress}");
    }
    Ok(())
}

#[test]
fn another_training_does_not_go_on_from_it() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let stopped = Fault { fails_at: Some(STEPS + 2), ..Fault::default() };
    let (training, _) = start(folder.path(), stopped, |setup| setup)?;
    training.wait().unwrap_err();
    let refused = |change: fn(Setup) -> Setup| {
        let error = start(folder.path(), Fault::default(), change).map(drop).unwrap_err();
        error.to_string()
    };
    let error = refused(|setup| Setup { learning_rate: 0.02, ..setup });
    assert!(error.contains("learning_rate was 0.01 and is 0.02") && error.contains(".fresh()"), "{error}");
    let error = refused(|setup| Setup { beta1: 0.8, ..setup });
    assert!(error.contains("beta1: 0.9") && error.contains("beta1: 0.8"), "{error}");
    let error = refused(|setup| Setup { channels: 5, ..setup });
    assert!(error.contains("another network") && error.contains("conv.weight"), "{error}");
    // What was refused is still there to go on from; what begins anew has done nothing yet.
    let (training, _) = start(folder.path(), Fault::default(), |setup| setup)?;
    assert_eq!(training.progress().first_epoch, 1);
    training.stop();
    let (training, parameters) = start(folder.path(), Fault::default(), |setup| Setup { fresh: true, ..setup })?;
    assert_eq!(training.progress().first_epoch, 0);
    training.wait()?;
    assert_eq!(outcome(&training, &parameters)?, undisturbed()?);
    // What is finished is not begun again by surprise, but loaded; nor is it replaced by a training without checkpoints.
    let (training, parameters) = start(folder.path(), Fault::default(), |setup| setup)?;
    training.wait()?;
    assert_eq!(training.progress().to_string(), "finished: 4 epochs, all of them before");
    assert_eq!(outcome(&training, &parameters)?, undisturbed()?);
    let loader = DataLoader::new(&Cifar10::stand_in(0, 8, 0).train, &Device::Cpu);
    let error = Trainer::with_loop(&loader, |_| Ok(())).folder(folder.path()).start().unwrap_err().to_string();
    assert!(error.contains("another training's checkpoints"), "{error}");
    assert_eq!(RunRecord::read(folder.path())?.rows.len(), EPOCHS);
    Ok(())
}

#[test]
fn a_damaged_checkpoint_is_passed_over() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let stopped = Fault { fails_at: Some(3 * STEPS + 1), ..Fault::default() };
    let (training, _) = start(folder.path(), stopped, |setup| setup)?;
    training.wait().unwrap_err();
    let checkpoints = folder.path().join("checkpoints");
    let mut files: Vec<_> = std::fs::read_dir(&checkpoints).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 3);
    // The newest is damaged in one bit, the one before it is cut.
    let mut bytes = std::fs::read(&files[2]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&files[2], bytes).unwrap();
    std::fs::write(&files[1], &std::fs::read(&files[1]).unwrap()[..middle]).unwrap();
    let (training, parameters) = start(folder.path(), Fault::default(), |setup| setup)?;
    assert_eq!(training.progress().first_epoch, 1);
    training.wait()?;
    assert_eq!(outcome(&training, &parameters)?, undisturbed()?);
    Ok(())
}

/// A loop of one's own, which must say what it steps with.
#[test]
fn a_loop_that_could_not_be_resumed_is_refused() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let loader = DataLoader::new(&Cifar10::stand_in(0, 32, 0).train, &Device::Cpu).batch_size(8);
    let parameters = Parameters::new(0);
    let weight = linear(3 * 32 * 32, 10, parameters.var_builder(&Device::Cpu).pp("fc"))?;
    let start = |resumes: bool, batches_of_run: bool, stops_after: usize| {
        let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
        let (batches, weight, stop) = (loader.clone(), weight.clone(), folder.path().join("stop"));
        let body = move |run: &mut Run| {
            let mut sgd = if resumes { Some(run.resume(sgd)?) } else { None };
            let mut steps = 0;
            for epoch in run.epochs() {
                let epoch = if batches_of_run { run.batches(&batches, epoch) } else { batches.epoch(epoch) };
                for batch in epoch {
                    let Batch { images, labels, .. } = batch?;
                    let logits = weight.forward(&flatten(&images)?)?;
                    let loss = cross_entropy(&logits, &labels)?;
                    if let Some(sgd) = &mut sgd {
                        sgd.step(&backward(&loss)?)?;
                    }
                    steps += 1;
                    if steps == stops_after {
                        // As if it were stopped in the middle of the epoch.
                        std::fs::write(&stop, "").unwrap();
                        std::thread::sleep(Duration::from_millis(1_100));
                    }
                    run.step(&loss, &logits, &labels)?;
                }
                run.end_epoch(None)?;
            }
            Ok(())
        };
        Trainer::with_loop(&loader, body).epochs(2).folder(folder.path()).resumable(&parameters).start()?.wait()
    };
    let error = start(false, false, 0).unwrap_err().to_string();
    assert!(error.contains("run.resume"), "{error}");
    start(true, true, 2)?;
    let error = start(true, false, 0).unwrap_err().to_string();
    assert!(error.contains("run.batches"), "{error}");
    start(true, true, 0)?;
    assert_eq!(RunRecord::read(folder.path())?.rows.len(), 2);
    Ok(())
}

/// Rates of groups that change at different speeds, which one rate and its proportions would not bring back.
#[test]
fn a_loop_that_sets_each_group_s_rate_goes_on_to_the_bit() -> Result<()> {
    let loader = DataLoader::new(&Cifar10::stand_in(3, 32, 0).train, &Device::Cpu).batch_size(8).shuffle(5);
    type Trained = (Option<String>, Vec<Vec<f32>>, Vec<Option<f64>>);
    let train = |folder: &Path, fails_at: Option<usize>| -> Result<Trained> {
        let parameters = Parameters::new(3);
        let head = linear(3 * 32 * 32, 10, parameters.var_builder(&Device::Cpu).pp("fc"))?;
        let (weights, biases): (Vec<Var>, Vec<Var>) = parameters.trainable().into_iter().partition(|v| v.rank() > 1);
        let muon = ParameterGroup { vars: weights, config: MuonConfig::default() };
        let sgd = SgdConfig { learning_rate: 0.1, momentum: 0.9, ..SgdConfig::default() };
        let muon = Muon::with_sgd(vec![muon], vec![ParameterGroup { vars: biases, config: sgd }])?;
        let batches = loader.clone();
        let body = move |run: &mut Run| {
            let mut muon = run.resume(muon)?;
            for epoch in run.epochs() {
                for batch in run.batches(&batches, epoch) {
                    let Batch { images, labels, .. } = batch?;
                    let step = run.steps_done();
                    if fails_at == Some(step) {
                        return Err(candle_core::Error::Msg("the loop is broken".into()).into());
                    }
                    // Those of the first epoch's last step stay.
                    if step < 4 {
                        muon.set_learning_rates(&[0.02 / (1 + step) as f64, 0.1 / (1 + step * step) as f64])?;
                    }
                    let logits = head.forward(&flatten(&images)?)?;
                    let loss = cross_entropy(&logits, &labels)?;
                    muon.step(&backward(&loss)?)?;
                    run.step(&loss, &logits, &labels)?;
                }
                run.end_epoch(None)?;
            }
            Ok(())
        };
        let training = Trainer::with_loop(&loader, body).epochs(3).folder(folder).resumable(&parameters).start()?;
        let error = training.wait().err().map(|error| error.to_string());
        let values = parameters.trainable().into_iter().map(|var| var.flatten_all()?.to_vec1::<f32>());
        let rates: Vec<Option<f64>> = training.history().epochs.iter().map(|row| row.learning_rate).collect();
        Ok((error, values.collect::<CandleResult<Vec<_>>>()?, rates))
    };
    let (undisturbed, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = train(undisturbed.path(), None)?;
    assert_eq!(wanted.2, [Some(0.02 / 4.0); 3]);
    assert!(train(stopped.path(), Some(6))?.0.is_some_and(|error| error.contains("the loop is broken")));
    assert_eq!(train(stopped.path(), None)?, wanted);
    Ok(())
}

/// The settings that no one has to note: each makes it another training.
#[test]
fn whatever_decides_the_result_is_compared() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let data = Cifar10::stand_in(0, 64, 0).train;
    let start = |loader: &DataLoader, seed: u64, rate: f64, fails: bool| {
        let parameters = Parameters::new(seed);
        let net =
            Sequential::new().add(Flatten).add(linear(3 * 32 * 32, 10, parameters.var_builder(&Device::Cpu).pp("fc"))?);
        let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
        let loss = move |logits: &Tensor, labels: &Tensor| {
            if fails {
                candle_core::bail!("the loss is broken");
            }
            cross_entropy(logits, labels)
        };
        let trainer = Trainer::new(net, sgd, loader).loss(loss).schedule(Schedule::one_cycle(rate, 20)?);
        // Settings of the user's own hide nothing.
        let trainer = trainer.settings(serde_json::json!({"seed": "7", "augmentation": "mine", "batch_size": "mine"}));
        trainer.folder(folder.path()).resumable(&parameters).start()
    };
    let loader = DataLoader::new(&data, &Device::Cpu).batch_size(16).shuffle(1);
    start(&loader, 0, 0.1, true)?.wait().unwrap_err();
    let refused = |loader: &DataLoader, seed, rate, words: &str| {
        let error = start(loader, seed, rate, false).map(drop).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    };
    refused(&loader, 1, 0.1, "the parameters' seed was 0 and is 1");
    refused(&loader, 0, 0.2, "the schedule was");
    refused(&loader.seed(2), 0, 0.1, "seed was 1 and is 2");
    refused(&loader.batch_size(32), 0, 0.1, "batch_size was 16 and is 32");
    refused(&loader.augment(RandomCrop { padding: 2 }), 0, 0.1, "augmentation was \"none\" and is \"crop 2\"");
    refused(&loader.normalize(&Normalize::default()), 0, 0.1, "the normalization was");
    refused(&DataLoader::new(&data, &Device::Cpu).batch_size(16).seed(1), 0, 0.1, "the order was");
    let others: Vec<usize> = (0..64).rev().collect();
    let other = DataLoader::new(&data.subset(&others)?, &Device::Cpu).batch_size(16).shuffle(1);
    refused(&other, 0, 0.1, "the images' checksum was");
    let mut inverted = Vec::new();
    for index in 0..data.len() {
        inverted.extend(data.pixels(index)?.iter().map(|value| 255 - value));
    }
    let (shape, names) = (data.image_shape(), data.class_names().to_vec());
    let inverted = Dataset::new(Source::StandIn { seed: 0 }, Split::Train, shape, names, inverted, data.labels())?;
    refused(&DataLoader::new(&inverted, &Device::Cpu).batch_size(16).shuffle(1), 0, 0.1, "the images' checksum was");
    start(&loader, 0, 0.1, false)?.wait()
}

#[test]
fn parameters_that_are_being_trained_are_refused() -> Result<()> {
    let loader = DataLoader::new(&Cifar10::stand_in(0, 32, 0).train, &Device::Cpu).batch_size(8);
    let parameters = Parameters::new(0);
    let layer = linear(3 * 32 * 32, 10, parameters.var_builder(&Device::Cpu).pp("fc"))?;
    let start = |name: &str| {
        let net = Sequential::new().add(Flatten).add(layer.clone());
        let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
        let folder = tempfile::tempdir().unwrap().keep();
        Trainer::new(net, sgd, &loader).name(name).epochs(1_000_000).folder(folder).resumable(&parameters).start()
    };
    let first = start("first")?;
    let error = start("second").map(drop).unwrap_err().to_string();
    assert!(error.contains("still training them"), "{error}");
    // A snapshot and a stop within a pause leave a checkpoint of that moment.
    let paused = first.pause();
    let step = (paused.progress().epoch, paused.progress().step);
    parameters.state_dict()?;
    first.stop();
    drop(paused);
    let folder = first.folder()?;
    assert!(std::fs::read_dir(folder.join("checkpoints")).unwrap().count() > 0, "{step:?}");
    std::fs::remove_dir_all(folder).unwrap();
    Ok(())
}

/// A full disk, or a folder that can't be written, ends no training.
#[test]
fn a_training_goes_on_where_nothing_can_be_written() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("checkpoints"), "a file where the folder should be").unwrap();
    let (training, parameters) = start(folder.path(), Fault::default(), |setup| setup)?;
    training.wait()?;
    let warning = training.progress().warning.expect("a warning");
    assert!(warning.contains("writing") && warning.contains("checkpoints"), "{warning}");
    assert_eq!(outcome(&training, &parameters)?, undisturbed()?);
    Ok(())
}

/// A file system of so many bytes in memory; `None` where it can't be mounted.
#[cfg(target_os = "linux")]
struct SmallDisk(tempfile::TempDir);

#[cfg(target_os = "linux")]
impl SmallDisk {
    fn mount(bytes: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(folder.path());
        let mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        mounted.then(|| Self(folder))
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn on_a_full_disk_the_newest_checkpoint_that_fits_stays() -> Result<()> {
    // Weights and two moments of 64 · 64 · 16 values and some more: 0.8 MB for a checkpoint.
    let large = |setup| Setup { channels: 64, ..setup };
    let stopped = Fault { fails_at: Some(3 * STEPS + 1), ..Fault::default() };
    // Three checkpoints don't fit; then not even one, but for the first, which has no moments yet.
    for (bytes, resumed_at) in [(2_500_000, 3), (1_200_000, 0)] {
        let Some(disk) = SmallDisk::mount(bytes) else {
            eprintln!("skipped: no file system can be mounted here");
            return Ok(());
        };
        let (training, _) = start(disk.0.path(), stopped, large)?;
        training.wait().unwrap_err();
        assert_eq!(training.progress().warning.is_some(), resumed_at == 0);
        let (training, _) = start(disk.0.path(), Fault::default(), large)?;
        assert_eq!(training.progress().first_epoch, resumed_at, "{bytes} bytes");
        training.wait()?;
        assert_eq!(RunRecord::read(disk.0.path())?.rows.len(), EPOCHS);
    }
    Ok(())
}

/// A sweep that is run again: what was finished is not trained again, what was stopped goes on, the rest begins.
#[test]
fn of_a_sweep_that_is_run_again_only_the_rest_is_trained() -> Result<()> {
    let sweep = tempfile::tempdir().unwrap();
    let rates = [0.01, 0.02, 0.04];
    let member = |rate: f64, fault: Fault| {
        start(&sweep.path().join(rate.to_string()), fault, |setup| Setup { learning_rate: rate, ..setup })
    };
    member(rates[0], Fault::default())?.0.wait()?;
    member(rates[1], Fault { panics_at: Some(STEPS + 2), ..Fault::default() })?.0.wait().unwrap_err();
    let mut first_epochs = Vec::new();
    for rate in rates {
        // The first one would panic if it made a step.
        let fault = Fault { panics_at: (rate == rates[0]).then_some(1), ..Fault::default() };
        let (training, parameters) = member(rate, fault)?;
        training.wait()?;
        first_epochs.push(training.progress().first_epoch);
        let alone = tempfile::tempdir().unwrap();
        let (wanted, wanted_parameters) =
            start(alone.path(), Fault::default(), |setup| Setup { learning_rate: rate, ..setup })?;
        wanted.wait()?;
        assert_eq!(outcome(&training, &parameters)?, outcome(&wanted, &wanted_parameters)?, "{rate}");
    }
    assert_eq!(first_epochs, [EPOCHS, 1, 0]);
    assert!(RunRecords::read(sweep.path())?.list().iter().all(|run| run.state == RunState::Finished));
    Ok(())
}

/// Where the child process trains; only that process has it.
const FOLDER: &str = "CIFAR_LAB_TEST_TRAINS_IN";
/// How often it is killed.
const KILLS: usize = 25;
/// So many that it is not done before the last kill.
const MANY_EPOCHS: usize = 200;

/// Not a test but the child's program; it leaves its outcome in its folder.
#[test]
#[ignore = "the child process of the test below"]
fn child() -> Result<()> {
    let Some(folder) = std::env::var_os(FOLDER) else { return Ok(()) };
    let (training, parameters) =
        start(Path::new(&folder), Fault::default(), |setup| Setup { epochs: MANY_EPOCHS, ..setup })?;
    training.wait()?;
    let text = format!("{:?}", outcome(&training, &parameters)?);
    std::fs::write(Path::new(&folder).join("outcome"), text).unwrap();
    Ok(())
}

#[test]
fn a_training_that_is_killed_at_random_moments_ends_with_the_bits_of_an_undisturbed_one() -> Result<()> {
    let run = |folder: &Path, killed_after: Option<Duration>| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--ignored"]).env(FOLDER, folder);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        if let Some(time) = killed_after {
            std::thread::sleep(time);
            child.kill().unwrap(); // SIGKILL
        }
        child.wait().unwrap();
        std::fs::read_to_string(folder.join("outcome")).ok()
    };
    let (undisturbed, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = run(undisturbed.path(), None).expect("an outcome");
    let mut random = stream(1, "kills", &[]);
    let mut epochs = Vec::new();
    for _ in 0..KILLS {
        let time = Duration::from_millis(random.random_range(0..300));
        assert_eq!(run(killed.path(), Some(time)), None, "it was done before the last kill");
        // Before its first moment there is no record yet.
        let record = RunRecord::read(killed.path()).ok();
        assert!(record.as_ref().is_none_or(|record| record.state == RunState::Died), "{record:?}");
        epochs.push(record.map_or(0, |record| record.rows.len()));
    }
    println!("epochs done after each kill: {epochs:?}");
    assert!(epochs.iter().collect::<std::collections::HashSet<_>>().len() > KILLS / 2, "{epochs:?}");
    assert_eq!(run(killed.path(), None), Some(wanted));
    assert_eq!(RunRecord::read(killed.path())?.rows.len(), MANY_EPOCHS);
    Ok(())
}
