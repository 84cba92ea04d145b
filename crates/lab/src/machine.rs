//! This machine: its processor, its memory, and what its programs print.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

/// What a program prints, if it succeeds.
pub fn output(program: &str, arguments: &[&str]) -> Option<String> {
    succeeded(Command::new(program).args(arguments))
}

/// The same for a command.
pub fn succeeded(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_string())
}

/// "1.95.0 (…)" as (1, 95).
pub fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The file of this program. On Linux it is the running program itself, even if `cargo lab test` has had `lab` rebuilt
/// meanwhile.
pub fn own_program() -> io::Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() { Ok(running) } else { std::env::current_exe() }
}

/// The processor's name.
pub fn processor() -> Option<String> {
    let linux = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_string())
    });
    linux.or_else(|| output("sysctl", &["-n", "machdep.cpu.brand_string"]))
}

/// The number of cores that this program may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}

/// Memory, in GB.
pub fn memory_gb() -> Option<f64> {
    let linux = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kib| kib * 1024.0 / 1e9)
    });
    linux.or_else(|| output("sysctl", &["-n", "hw.memsize"])?.parse::<f64>().ok().map(|bytes| bytes / 1e9))
}
