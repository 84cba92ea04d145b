// A training on its own thread, while the kernel idles after cell 3. Later cells watch and stop it.
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
println!("epochs before {}", training.history().epochs.len());
// %%
println!("epochs after {}", training.history().epochs.len());
println!("training {}", training.progress());
training.watch(1.0)?;
// %%
training.stop();
println!("training {}", training.progress());
// %%
let loader: DataLoader = DataLoader::new(&data.test, &Device::Cpu);
println!("tested {}", evaluate(&net, &loader)?);
// %%
println!("epochs in the end {}", training.history().epochs.len());
training.figure()?
