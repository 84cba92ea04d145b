//! Reads each `.pth` in one folder and writes it to another under the same name, for `tests/with_pytorch.py`:
//! `cargo run -p pth --example rewrite FROM TO`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = arguments.as_slice() else { return Err("usage: rewrite FROM TO".into()) };
    let mut count = 0;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "pth") {
            continue;
        }
        let name = path.file_stem().and_then(|name| name.to_str()).ok_or("the file name is not UTF-8")?;
        let file = std::fs::read(&path)?;
        let state = pth::StateDict::read(&file).map_err(|error| format!("{}: {error}", path.display()))?;
        let target = Path::new(to).join(format!("{name}.pth"));
        state.write(name, std::io::BufWriter::new(std::fs::File::create(target)?))?;
        count += 1;
    }
    println!("{count} files");
    Ok(())
}
