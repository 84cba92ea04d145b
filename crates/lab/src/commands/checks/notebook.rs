//! Executing a notebook with its test settings, most cells twice.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::expectation::Trial;
use super::laboratory::{Laboratory, STAND_IN, passed};
use super::outputs;
use crate::execution::progress::Shown;
use crate::execution::{Request, latencies};
use crate::notebook::Notebook;
use crate::repository::stem;

/// Cells that take less are executed twice. With test settings they take seconds, so even a busy machine skips none.
const TWICE_BELOW: Duration = Duration::from_secs(120);

/// Executes the notebook at `path` and checks its outputs; returns what they hold, or everything that is wrong.
pub fn check(laboratory: &Laboratory, path: &Path) -> Result<String, String> {
    let said = |error: crate::error::Error| error.to_string();
    let name = stem(path);
    let Trial { notebook, expected, .. } = Trial::read(path).map_err(said)?;
    let folder = laboratory.folder.join(&name);
    let _ = fs::remove_dir_all(&folder);
    let mut request = Request::new(notebook.clone(), &name, folder);
    request.variables.push((STAND_IN.0.to_string(), STAND_IN.1.to_string()));
    request.shown = Shown::Cells;
    request.twice_below = Some(TWICE_BELOW);
    let execution = laboratory.execute_as(&request)?;
    passed(&name, &notebook, &execution)?;
    let executed = Notebook::read(&execution.copy).map_err(said)?;
    let bytes = fs::metadata(&execution.copy).map(|metadata| metadata.len()).map_err(|error| error.to_string())?;
    let mut problems = outputs::problems(&executed, bytes);
    let printed = executed.all_printed();
    problems.extend(expected.iter().filter_map(|expectation| expectation.problem(&printed)));
    if !problems.is_empty() {
        return Err(problems.join("\n        "));
    }
    let (cells, pictures) = (notebook.code_cells().len(), outputs::count_pictures(&executed));
    let twice = execution.repeated.len();
    let twice = if twice == cells { "each twice".to_string() } else { format!("{twice} twice") };
    let latencies = latencies(&execution.cells);
    Ok(format!("{latencies}; {twice}; {pictures} figures, {} kB", bytes / 1000))
}
