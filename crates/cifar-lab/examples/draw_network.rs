//! Draws the original's network from a forward pass, as the README shows it:
//! `cargo run -p cifar-lab --example draw_network docs/network.svg`.

use cifar_lab::prelude::*;

fn main() -> Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "network.svg".to_string());
    let net = Net::new(&NetConfig::default(), Parameters::new(0).var_builder(&Device::Cpu))?;
    let image = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
    forward_trace(&net, &image)?.figure()?.save(&path)?;
    println!("drawn to {path}");
    Ok(())
}
