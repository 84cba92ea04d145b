//! Arbitrary bytes as a checkpoint: it is refused, or sets finite weights; a refused one changes nothing.
#![no_main]

mod folder;

use candle_cnn::optim::{SGD, SgdConfig};
use candle_cnn::parameters::Parameters;
use cifar_lab::candle_core::Device;
use cifar_lab::candle_nn::{self, Optimizer};
use cifar_lab::checkpoint::load_checkpoint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let parameters = Parameters::new(0);
    candle_nn::linear(3, 2, parameters.var_builder(&Device::Cpu).pp("fc")).expect("a layer");
    let config = SgdConfig { momentum: 0.9, ..SgdConfig::default() };
    let mut sgd = SGD::new(parameters.trainable(), config).expect("an optimizer");
    let weight = |parameters: &Parameters| {
        parameters.state_dict().expect("a state")["fc.weight"].to_vec2::<f32>().expect("values")
    };
    let before = weight(&parameters);
    if load_checkpoint(&parameters, folder::file("checkpoint.safetensors", bytes), &mut sgd).is_err() {
        assert_eq!(weight(&parameters), before);
    }
});
