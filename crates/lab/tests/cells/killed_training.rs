// A training that goes on wherever its kernel was killed; the last cell prints the weights' bits. FOLDER, EPOCHS and STARTED
// are filled in.
// %%
:dep cifar-lab = { path = "../crates/cifar-lab" }
use cifar_lab::prelude::*;
// %%
use std::hash::{Hash, Hasher};
let data: Cifar10 = Cifar10::stand_in(3, 72, 16);
let parameters: Parameters = Parameters::new(3);
let config: NetConfig = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
let net: Net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
let loader: DataLoader = DataLoader::new(&data.train, &Device::Cpu)
    .batch_size(16)
    .shuffle(5)
    .augment(RandomHorizontalFlip { p: 0.5 })
    .augment(RandomCrop { padding: 4 });
let training: Training = {
    let sgd = SGD::new(parameters.trainable(), SgdConfig { momentum: 0.9, weight_decay: 1e-3, ..SgdConfig::default() })?;
    Trainer::new(net.clone(), sgd, &loader)
        .epochs(EPOCHS)
        .test(&DataLoader::new(&data.test, &Device::Cpu))
        .schedule(Schedule::one_cycle(0.02, EPOCHS * loader.len())?)
        // Slow enough to be killed in the middle.
        .loss(|logits, labels| { std::thread::sleep(std::time::Duration::from_millis(2)); cross_entropy(logits, labels) })
        .folder(FOLDER)
        .resumable(&parameters)
        .start()?
};
std::fs::write(STARTED, "")?;
training.wait()?;
let mut hash: std::hash::DefaultHasher = std::hash::DefaultHasher::new();
for (name, tensor) in parameters.snapshot()? {
    let values = tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    (name, values.into_iter().map(f32::to_bits).collect::<Vec<u32>>()).hash(&mut hash);
}
println!("weights {:016x} after {} epochs", hash.finish(), training.history().epochs.len());
