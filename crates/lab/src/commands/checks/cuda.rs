//! Compiles, lints and links all CUDA code, which needs the toolkit but no GPU, and runs its tests on the GPU, or on a
//! simulated one if there is no driver.

use super::tally::Tally;
use crate::cuda::{self, CudaBuild, Places};
use crate::programs::{CUDA_TESTS, cargo_with_cuda};
use crate::repository::Repository;

/// Runs a program compiled with CUDA on a simulated GPU.
const SIMULATED_GPU: &str = "crates/candle-cnn/tests/simulated_gpu/run.sh";

/// Runs the checks up to the first failure; returns whether all passed.
pub fn check(repository: &Repository, tally: &mut Tally) -> bool {
    let build = match CudaBuild::of_toolkit() {
        Ok(build) => build,
        Err(reason) => return tally.check("the CUDA toolkit", || Err(reason.to_string())),
    };
    let simulated = cuda::find_driver(&Places::of_process()).is_none();
    if simulated {
        println!("skipped: no GPU; the simulated one checks results and errors, but not the compiled GPU code");
    }
    let mut cargo = |feature: &str, before: &[&str], after: &[&str], configuration: &[&str]| {
        let mut command = cargo_with_cuda(repository, &build, feature, before, after);
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect();
        tally.run(&format!("cargo {}", arguments.join(" ")), command.args(configuration))
    };
    let mut features = vec!["cuda", build.feature()];
    features.dedup();
    let runner = format!("target.'cfg(all())'.runner = {:?}", repository.root().join(SIMULATED_GPU));
    let runner: &[&str] = if simulated { &["--config", &runner] } else { &[] };
    let computing: Vec<&str> =
        ["test", "--lib"].into_iter().chain(CUDA_TESTS.iter().flat_map(|name| ["--test", name])).collect();
    features.into_iter().all(|feature| cargo(feature, &["clippy", "--all-targets"], &["--", "-D", "warnings"], &[]))
        && cargo(build.feature(), &["test", "--no-run"], &[], &[])
        && cargo(build.feature(), &computing, &[], runner)
}
