//! Executing notebooks for checks.

use std::path::PathBuf;
use std::time::Duration;

use crate::environment;
use crate::error::Result;
use crate::execution::{self, Execution, Interrupts, Outcome, Request};
use crate::kernel::installation::Installation;
use crate::notebook::Notebook;
use crate::repository::Repository;

/// The variable that makes the crate use the generated stand-in for CIFAR-10, and its value.
pub const STAND_IN: (&str, &str) = ("CIFAR_LAB_DATA", "stand-in");

/// What is needed to execute notebooks.
#[derive(Clone)]
pub struct Laboratory {
    pub repository: Repository,
    pub installation: Installation,
    /// Ctrl-C.
    pub interrupts: Interrupts,
    /// The folder for executed copies.
    pub folder: PathBuf,
    /// How long the test of an idle kernel waits.
    pub idle: Duration,
}

impl Laboratory {
    /// Sets up what is missing.
    pub fn set_up(repository: &Repository, folder: PathBuf, idle: Duration) -> Result<Self> {
        let installation = environment::set_up(repository)?;
        Ok(Self { repository: repository.clone(), installation, interrupts: Interrupts::watch()?, folder, idle })
    }

    /// Executes cells that must pass, and returns their output.
    pub fn printed_by(&self, name: &str, notebook: &Notebook) -> Result<String, String> {
        printed(passed(name, notebook, &self.execute(name, notebook)?)?)
    }

    /// Executes a notebook.
    pub fn execute(&self, name: &str, notebook: &Notebook) -> Result<Execution, String> {
        self.execute_as(&Request::new(notebook.clone(), name, self.folder.join(name)))
    }

    /// Executes a notebook as `request` says.
    pub fn execute_as(&self, request: &Request) -> Result<Execution, String> {
        self.execute_with(request, &mut |_| {})
    }

    /// The same, and calls `between` after each code cell.
    pub fn execute_with(&self, request: &Request, between: &mut dyn FnMut(usize)) -> Result<Execution, String> {
        let execution =
            execution::execute_with(&self.repository, &self.installation, request, &self.interrupts, between)
                .map_err(|error| error.to_string())?;
        if execution.cleaned {
            return Ok(execution);
        }
        let outcome = passed(&request.name, &request.notebook, &execution).err().unwrap_or_default();
        Err(format!("{outcome}\nthe kernel's folder was left behind").trim_start().to_string())
    }
}

/// The execution, unless a cell failed.
pub fn passed<'a>(name: &str, notebook: &Notebook, execution: &'a Execution) -> Result<&'a Execution, String> {
    match &execution.outcome {
        Outcome::Passed => Ok(execution),
        Outcome::Failed { cell, failure } => Err(execution::describe(name, notebook, *cell, failure)),
        Outcome::Interrupted { cell } => Err(format!("interrupted in cell {cell}")),
    }
}

/// The output of an executed notebook.
pub fn printed(execution: &Execution) -> Result<String, String> {
    let copy = Notebook::read(&execution.copy).map_err(|error| error.to_string())?;
    Ok(copy.all_printed())
}
