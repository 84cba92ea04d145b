// Cells whose output doesn't reveal how they ended. `raises` at the start stands for the tag; the last cell has it, but passes.

// %%
let six: i32 = dbg!("6".parse::<i32>()?);
// %%
fn work() -> Result<u8, String> { Ok(1) }
eprintln!("error: epoch 1 of 2 is slow");
work()?;
// %%
println!("caught {}", std::panic::catch_unwind(|| { panic!("caught") }).is_err());
// %%
println!("joined {}", std::thread::spawn(|| { panic!("joined") }).join().is_err());
// %%
std::thread::spawn(|| { std::thread::sleep(std::time::Duration::from_millis(300)); panic!("late") });
// %%
std::thread::sleep(std::time::Duration::from_millis(600));
println!("late passed");
// %%
let inner: Result<i32, std::num::ParseIntError> = (|| { let number: i32 = "q".parse()?; Ok(number) })();
println!("inner {}", inner.is_err());
// %%
let mut line: String = String::new();
std::io::stdin().read_line(&mut line)?;
println!("read {line:?}");
// %%
// raises: a panic in a drop at the cell's end
struct Fragile;
impl Drop for Fragile {
    fn drop(&mut self) { panic!("dropped") }
}
{ let fragile = Fragile; println!("alive"); }
// %%
// raises: an error through `?`, behind one that is handled
eprintln!("{}", "x".parse::<i32>().is_err());
let never: i32 = "five".parse::<i32>()?;
// %%
// raises: no Rust
let never: i32 = "five";
// %%
// raises: a panic
six / (six - 6)
// %%
println!("kept {six}");
// %%
// raises: the end of the process, whatever its code says
std::process::exit(0)
// %%
println!("restarted");
// %%
// raises: nothing
println!("passed");
