//! Lists the tensors in a file written by torch.save: `cargo run -p pth --example list FILE`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: list FILE")?;
    let file = std::fs::read(&path)?;
    let state = pth::StateDict::read(&file)?;
    for (name, tensor) in state.iter() {
        println!("{name:40} {:9} {:?}", tensor.dtype().to_string(), tensor.shape());
    }
    println!("{} tensors, {} bytes", state.len(), state.iter().map(|(_, tensor)| tensor.data().len()).sum::<usize>());
    Ok(())
}
