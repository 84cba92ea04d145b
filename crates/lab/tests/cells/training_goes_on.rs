// A training on its own thread, while the kernel idles after cell 3, and while other cells panic. `raises` at the start stands for
// the tag.
// %%
:dep cifar-lab = { path = "../crates/cifar-lab" }
use cifar_lab::prelude::*;
// %%
let data: Cifar10 = Cifar10::stand_in(1, 256, 64);
let parameters: Parameters = Parameters::new(1);
let config: NetConfig = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
let net: Net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
// %%
let sgd: SGD = SGD::new(parameters.trainable(), SgdConfig::default())?;
let loader: DataLoader = DataLoader::new(&data.train, &Device::Cpu).batch_size(32).shuffle(1);
let training: Training = Trainer::new(net.clone(), sgd, &loader).epochs(1_000_000).start()?;
println!("epochs at its start {}", training.history().epochs.len());
// %%
println!("epochs after the idle time {}", training.history().epochs.len());
training.watch(1.0)?;
// %%
// raises: while it holds the training
{
    let paused = training.pause();
    panic!("in a pause at epoch {}", paused.progress().epoch)
}
// %%
// raises: while it reads the weights
let rows: Vec<u8> = parameters.snapshot()?.into_iter().map(|(_, tensor)| vec![0u8; 1][tensor.elem_count() + 1]).collect();
// %%
// raises: an error
let never: i32 = "five".parse::<i32>()?;
// %%
println!("panicked {}", std::thread::spawn(|| { panic!("on a thread") }).join().is_err());
println!("epochs after the panics {}", training.history().epochs.len());
training.watch(1.0)?;
println!("{}", training.evaluate(&net, &loader)?);
// %%
println!("epochs in the end {}", training.history().epochs.len());
training.stop();
println!("training {}", training.progress());
training.figure()?
