//! Counting checks and reporting how each went.

use std::process::Command;
use std::time::Instant;

use crate::programs;
use crate::repository::Repository;
use crate::steps::seconds;

/// What has been checked so far.
#[derive(Default)]
pub struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    /// Makes one check, which returns a remark or the reason of its failure; returns whether it passed.
    pub fn check(&mut self, what: &str, check: impl FnOnce() -> Result<String, String>) -> bool {
        let begun = Instant::now();
        let result = check();
        let took = seconds(begun.elapsed());
        match &result {
            Ok(remark) if remark.is_empty() => println!("ok      {what} ({took})"),
            Ok(remark) => println!("ok      {what} ({took}): {remark}"),
            Err(reason) => println!("FAILED  {what} ({took}): {reason}"),
        }
        match result {
            Ok(_) => self.passed += 1,
            Err(_) => self.failed += 1,
        }
        result.is_ok()
    }

    /// Reports how all checks went since `started`; returns whether all passed.
    pub fn sum_up(&self, started: Instant) -> bool {
        println!("\n{} passed, {} failed in {}", self.passed, self.failed, seconds(started.elapsed()));
        self.failed == 0
    }

    /// Runs cargo as a check; `set` adds to the command what isn't worth printing.
    pub fn cargo(&mut self, repository: &Repository, arguments: &[&str], set: impl FnOnce(&mut Command)) -> bool {
        let mut command = programs::cargo(repository, arguments);
        set(&mut command);
        self.run(&format!("cargo {}", arguments.join(" ")), &mut command)
    }

    /// Runs a program as a check.
    pub fn run(&mut self, what: &str, command: &mut Command) -> bool {
        self.check(what, || match command.status() {
            Ok(status) if status.success() => Ok(String::new()),
            Ok(status) => Err(format!("{status}, see above")),
            Err(error) => Err(error.to_string()),
        })
    }
}
