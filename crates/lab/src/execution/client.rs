//! The notebook client: Jupyter's own nbclient in a Python process (`client.py`), which reports events and takes
//! commands.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{DELETE_VENV, Error, Result};
use crate::kernel::settings;
use crate::repository::Repository;

/// The Python program, which setup installs.
pub const SCRIPT: &str = include_str!("client.py");

/// What the client is to execute.
#[derive(Clone, Debug)]
pub struct Job {
    /// The notebook, executed in place.
    pub notebook: PathBuf,
    /// The folder with the kernelspec `rust`.
    pub kernel_dirs: PathBuf,
    /// The kernel's working directory.
    pub cwd: PathBuf,
    /// Environment variables for the kernel.
    pub variables: Vec<(String, String)>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The kernel answers, after this time.
    Ready(Duration),
    /// The cell of this index among all cells begins.
    Cell(usize),
    /// The running cell printed on "stdout" or "stderr".
    Stream { name: String, text: String },
    /// The running cell showed an output with these MIME types.
    Shown(Vec<String>),
    /// The kernel printed a line itself, such as a crate that it compiles.
    Log(String),
    /// The cell of this index ended; the client waits for a command.
    End {
        /// The index among all cells.
        index: usize,
        /// Jupyter's status: "ok" or "error".
        status: String,
        took: Duration,
        outputs: Vec<Value>,
    },
    /// The kernel died in the cell of this index.
    Dead(usize),
    /// All cells were executed.
    Finished,
    /// The client stopped as told.
    Stopped,
    /// The client can't continue.
    Failed(String),
}

/// A running client.
pub struct Client {
    process: Child,
    events: BufReader<ChildStdout>,
    orders: Orders,
}

/// A handle to send orders to a client, from any thread.
#[derive(Clone)]
pub struct Orders(Arc<Mutex<Option<ChildStdin>>>);

impl Orders {
    /// Tells the client to stop at once.
    pub fn stop(&self) {
        self.send("stop");
    }

    /// Closes the client's input.
    fn close(&self) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
    }

    /// Whether both are for the same client.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn send(&self, order: &str) {
        let mut pipe = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(open) = pipe.as_mut()
            && writeln!(open, "{order}").and_then(|()| open.flush()).is_err()
        {
            *pipe = None;
        }
    }
}

impl Client {
    /// Starts `job` with a `python` that has nbclient, and [`SCRIPT`] at `script`.
    pub fn start(python: &Path, script: &Path, job: &Job, repository: &Repository) -> Result<Self> {
        let variables: serde_json::Map<String, Value> =
            job.variables.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let job = json!({
            "notebook": job.notebook,
            "kernel_dirs": [job.kernel_dirs],
            "cwd": job.cwd,
            "env": variables,
        });
        let mut command = Command::new(python);
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        // So that Ctrl-C only reaches this program, which then tells the client.
        command.process_group(0);
        settings::forget_cargo_run(&mut command, repository);
        settings::forget_profiles(&mut command);
        settings::isolate_python(&mut command);
        let mut process = command.spawn().map_err(Error::start(python.to_string_lossy(), DELETE_VENV))?;
        let (Some(stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(Error::Client("it has no pipes".to_string()));
        };
        let orders = Orders(Arc::new(Mutex::new(Some(stdin))));
        orders.send(&job.to_string());
        Ok(Self { process, events: BufReader::new(stdout), orders })
    }

    /// A handle for other threads.
    pub fn orders(&self) -> Orders {
        self.orders.clone()
    }

    /// Tells the client to go on, after it has reported the end of a cell.
    pub fn go_on(&self) {
        self.orders.send("next");
    }

    /// Tells the client to execute the cell again whose end it has just reported.
    pub fn again(&self) {
        self.orders.send("again");
    }

    /// Waits for the next event; `None` when the client is gone.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        let mut line = String::new();
        let read = self.events.read_line(&mut line).map_err(Error::file("read from", "the notebook client"))?;
        if read == 0 {
            return Ok(None);
        }
        parse(&line).map(Some).ok_or_else(|| Error::Client(line.trim().to_string()))
    }

    /// Waits for the client and its kernel to end.
    pub fn wait(mut self) {
        self.orders.stop();
        self.orders.close();
        // It must not block on output that nobody reads.
        let _ = std::io::copy(&mut self.events, &mut std::io::sink());
        let _ = self.process.wait();
    }
}

fn parse(line: &str) -> Option<Event> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |name: &str| value[name].as_str().map(str::to_string);
    let index = || value["index"].as_u64().and_then(|index| usize::try_from(index).ok());
    let took = || value["seconds"].as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Some(match value["event"].as_str()? {
        "ready" => Event::Ready(took()?),
        "cell" => Event::Cell(index()?),
        "stream" => Event::Stream { name: text("name")?, text: text("text")? },
        "shown" => {
            let types = value["types"].as_array()?;
            Event::Shown(types.iter().filter_map(Value::as_str).map(str::to_string).collect())
        }
        "log" => Event::Log(text("line")?),
        "end" => Event::End {
            index: index()?,
            status: text("status")?,
            took: took()?,
            outputs: value["outputs"].as_array()?.clone(),
        },
        "dead" => Event::Dead(index()?),
        "finished" => Event::Finished,
        "stopped" => Event::Stopped,
        "failed" => Event::Failed(text("message")?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read() {
        assert_eq!(parse(r#"{"event": "ready", "seconds": 1.5}"#), Some(Event::Ready(Duration::from_millis(1500))));
        assert_eq!(
            parse(r#"{"event": "stream", "name": "stdout", "text": "a\n"}"#),
            Some(Event::Stream { name: "stdout".into(), text: "a\n".into() })
        );
        assert_eq!(parse("Traceback (most recent call last):"), None);
        assert_eq!(parse(r#"{"event": "end", "index": 1}"#), None);
    }
}
