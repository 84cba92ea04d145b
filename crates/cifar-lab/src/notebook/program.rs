//! The runtime of a notebook that `cargo lab export` turned into a program.
//!
//! | | |
//! |---|---|
//! | [`execute`] | the program: first lines, arguments, exit code |
//! | [`cell()`] | the current cell, for messages |
//! | [`setting`] | a parameter that can be set at the start |
//! | [`Failure`] | any error, after `?` in a cell |
//! | [`Shown`] | a cell's last expression as text |
//!
//! The notebook's output goes to stdout, the program's own messages go to stderr.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Write as _;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_cnn::memory;

use super::show::Show;
use crate::device;

/// An exported notebook.
///
/// ```
/// use cifar_lab::program::{self, Exported, Failure};
///
/// fn cells() -> Result<(), Failure> {
///     program::cell(1);
///     let epochs: usize = 20;
///     let epochs: usize = program::setting("epochs", epochs)?;
///     assert_eq!(epochs, 20); // or what `--set epochs=…` says
///     "five".parse::<usize>()?; // ends the program with exit code 1
///     Ok(())
/// }
/// let notebook = Exported { notebook: "00", cells: 1, parameters: &[("epochs", "usize")] };
/// program::execute(&notebook, cells);
/// assert!(cells().is_err());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Exported {
    /// The notebook's name.
    pub notebook: &'static str,
    /// The number of its code cells.
    pub cells: usize,
    /// The parameters that can be set at the start, with their types.
    pub parameters: &'static [(&'static str, &'static str)],
}

/// The parameters set at the start.
static SETTINGS: OnceLock<BTreeMap<String, String>> = OnceLock::new();

/// The current cell, from 1; 0 before the first.
static CELL: AtomicUsize = AtomicUsize::new(0);

/// Executes an exported notebook's `cells` and returns the program's exit code: 1 if a cell failed, 2 if the arguments are
/// wrong.
pub fn execute(notebook: &Exported, cells: fn() -> Result<(), Failure>) -> ExitCode {
    let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    let settings = match parse(notebook, arguments) {
        Ok(Asked::Help) => {
            println!("{}", help(notebook));
            return ExitCode::SUCCESS;
        }
        Ok(Asked::Run(settings)) => settings,
        Err(problem) => {
            eprintln!("error: {problem}\n{}", help(notebook));
            return ExitCode::from(2);
        }
    };
    memory::keep_freed();
    // Already set only in doctests.
    let _ = SETTINGS.set(settings);
    eprintln!("{}.ipynb as a program, {} cells", notebook.notebook, notebook.cells);
    eprintln!("{}", device::requirements());
    // "auto" never fails.
    if let Ok(best) = device::choose_device("auto") {
        eprintln!("the best device here: {}", device::describe(&best));
    }
    let count = notebook.cells;
    let cell = || CELL.load(Ordering::Relaxed);
    // Not a hook, which would also see caught panics and those of other threads.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(cells)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(Failure(message))) => {
            eprintln!("error: cell {} of {count} failed: {message}", cell());
            ExitCode::FAILURE
        }
        Err(panic) => {
            eprintln!("error: cell {} of {count} panicked", cell());
            std::panic::resume_unwind(panic)
        }
    }
}

/// Sets the current cell's number, from 1.
pub fn cell(number: usize) {
    CELL.store(number, Ordering::Relaxed);
}

/// What the arguments request.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Help,
    Run(BTreeMap<String, String>),
}

/// Why the arguments are wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum ArgumentError {
    #[error("unknown argument {0:?}")]
    Unknown(String),
    #[error("--set needs name=value, not {0:?}")]
    Form(String),
    #[error("there is no parameter {0:?}; see --help")]
    Parameter(String),
}

fn parse(notebook: &Exported, arguments: impl Iterator<Item = String>) -> Result<Asked, ArgumentError> {
    let mut settings = BTreeMap::new();
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        let setting = match argument.as_str() {
            "--help" | "-h" => return Ok(Asked::Help),
            "--set" => arguments.next().ok_or_else(|| ArgumentError::Form(String::new()))?,
            _ => match argument.strip_prefix("--set=") {
                Some(setting) => setting.to_string(),
                None => return Err(ArgumentError::Unknown(argument)),
            },
        };
        let (name, value) = setting.split_once('=').ok_or_else(|| ArgumentError::Form(setting.clone()))?;
        if !notebook.parameters.iter().any(|(known, _)| *known == name.trim()) {
            return Err(ArgumentError::Parameter(name.to_string()));
        }
        settings.insert(name.trim().to_string(), value.trim().to_string());
    }
    Ok(Asked::Run(settings))
}

fn help(notebook: &Exported) -> String {
    let mut text = format!("The notebook {}.ipynb as a program. Option: --set name=value, for", notebook.notebook);
    for (name, kind) in notebook.parameters {
        text += &format!("\n  {name}: {kind}");
    }
    if notebook.parameters.is_empty() {
        text += " nothing, because it has no parameters.";
    }
    text
}

/// A type that a parameter can have.
pub trait Settable: Sized {
    /// Reads a value.
    ///
    /// # Errors
    /// A message that says what the type accepts.
    fn read(value: &str) -> Result<Self, String>;
}

macro_rules! settable {
    ($($kind:ty),*) => {$(
        impl Settable for $kind {
            fn read(value: &str) -> Result<Self, String> {
                <$kind>::from_str(&value.replace('_', "")).map_err(|error| format!("{error}; it must be {}", stringify!($kind)))
            }
        }
    )*};
}

settable!(u8, u16, u32, u64, usize, i32, i64, isize, f32, f64, bool);

impl Settable for String {
    fn read(value: &str) -> Result<Self, String> {
        Ok(value.to_string())
    }
}

impl Settable for &'static str {
    fn read(value: &str) -> Result<Self, String> {
        // Once per parameter, and the program needs it until its end.
        Ok(value.to_string().leak())
    }
}

/// A value that a parameter can't have. Its `Debug` prints only the message, because that is what a failed cell shows.
#[derive(thiserror::Error)]
#[error("--set {name}={value}: {wanted}")]
pub struct SettingError {
    name: String,
    value: String,
    wanted: String,
}

impl Debug for SettingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// A parameter's value: the one from `--set`, else `own`, the notebook's.
///
/// # Errors
/// If the value doesn't fit the parameter's type.
pub fn setting<T: Settable>(name: &str, own: T) -> Result<T, SettingError> {
    match SETTINGS.get().and_then(|settings| settings.get(name)) {
        Some(value) => T::read(value).map_err(|wanted| {
            let (name, value) = (name.to_string(), value.clone());
            SettingError { name, value, wanted }
        }),
        None => Ok(own),
    }
}

/// An error in a cell, as the text that the kernel would print for it. `?` makes one of any type with `Debug`.
pub struct Failure(String);

impl<T: Debug> From<T> for Failure {
    fn from(error: T) -> Self {
        Self(format!("{error:?}"))
    }
}

/// A cell's last expression, shown as text: with both traits in scope, `(&Shown(&value)).show_as_text()` uses
/// [`ShowsView`] for values that show themselves, and otherwise [`ShowsDebug`], which needs one more reference and is
/// tried later.
///
/// ```
/// use cifar_lab::display::Table;
/// use cifar_lab::program::{ShowsDebug as _, Shown, ShowsView as _};
/// assert_eq!((&Shown(&Table::new(["a"]).row(["1"]))).text(), "a\n─\n1");
/// assert_eq!((&Shown(&[1, 2])).text(), "[1, 2]");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a, T: ?Sized>(pub &'a T);

/// The text of values that show themselves in a notebook; see [`Shown`].
pub trait ShowsView {
    /// The plain-text twin of what a notebook shows.
    fn text(&self) -> String;

    /// Prints it.
    fn show_as_text(&self) {
        line(&self.text());
    }
}

impl<T: Show + ?Sized> ShowsView for Shown<'_, T> {
    fn text(&self) -> String {
        self.0.view().text().to_string()
    }
}

/// The `{:?}` text of all other values; see [`Shown`].
pub trait ShowsDebug {
    /// The text; empty for `()`, the value of a loop.
    fn text(&self) -> String;

    /// Prints it.
    fn show_as_text(&self) {
        let text = self.text();
        if !text.is_empty() {
            line(&text);
        }
    }
}

impl<T: Debug + ?Sized> ShowsDebug for &Shown<'_, T> {
    fn text(&self) -> String {
        let text = format!("{:?}", self.0);
        if text == "()" { String::new() } else { text }
    }
}

/// Prints a text on lines of its own, in one write.
fn line(text: &str) {
    let mut text = text.trim_end_matches('\n').to_string();
    text.push('\n');
    // Without stdout there is nobody to show it to.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTEBOOK: Exported =
        Exported { notebook: "00", cells: 2, parameters: &[("epochs", "usize"), ("name", "&str")] };

    fn asked(arguments: &[&str]) -> Result<Asked, ArgumentError> {
        parse(&NOTEBOOK, arguments.iter().map(|argument| (*argument).to_string()))
    }

    #[test]
    fn arguments_are_settings() {
        let settings = |pairs: &[(&str, &str)]| {
            Asked::Run(pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect())
        };
        assert_eq!(asked(&[]), Ok(settings(&[])));
        assert_eq!(asked(&["--set", "epochs=2", "--set=name=a=b"]), Ok(settings(&[("epochs", "2"), ("name", "a=b")])));
        assert_eq!(asked(&["--set", "epochs=2", "-h"]), Ok(Asked::Help));
        assert_eq!(asked(&["--set", "epoch=2"]), Err(ArgumentError::Parameter("epoch".to_string())));
        assert_eq!(asked(&["--set"]), Err(ArgumentError::Form(String::new())));
        assert_eq!(asked(&["epochs=2"]), Err(ArgumentError::Unknown("epochs=2".to_string())));
        assert!(help(&NOTEBOOK).contains("epochs: usize"));
    }

    #[test]
    fn values_are_read_as_their_types() {
        assert_eq!(usize::read("10_000"), Ok(10_000));
        assert_eq!(f64::read("1e-3"), Ok(1e-3));
        assert_eq!(<&str>::read("cuda:1"), Ok("cuda:1"));
        assert!(u8::read("300").unwrap_err().contains("it must be u8"));
    }

    #[test]
    // As in a program, where the borrow decides.
    #[allow(clippy::needless_borrow)]
    fn values_show_what_the_kernel_shows_as_text() {
        use candle_core::{Device, Tensor, Var};
        let table = notebook_charts::Table::new(["a"]).row(["1"]);
        assert_eq!((&Shown(&table)).text(), "a\n─\n1");
        // A reference shows what it refers to, as in the kernel.
        assert_eq!((&Shown(&&table)).text(), "a\n─\n1");
        assert_eq!((&Shown(&Some("x"))).text(), "Some(\"x\")");
        assert_eq!((&Shown(&[1, 2][..])).text(), "[1, 2]");
        assert_eq!((&Shown(&())).text(), "");
        let var = Var::from_tensor(&Tensor::new(1f32, &Device::Cpu).unwrap()).unwrap();
        assert_eq!((&Shown(&var)).text(), (&Shown(var.as_tensor())).text());
    }

    #[test]
    fn any_error_becomes_a_failure() {
        fn cell(number: usize) -> Result<(), Failure> {
            match number {
                0 => Err(crate::error::Error::Stopped)?,
                1 => Err("text")?,
                _ => "five".parse::<usize>().map(|_| ())?,
            }
            Ok(())
        }
        let messages: Vec<String> = (0..3).filter_map(|number| cell(number).err()).map(|failure| failure.0).collect();
        assert_eq!(messages[..2], ["the training was asked to stop", "\"text\""]);
        assert!(messages[2].contains("InvalidDigit"));
    }
}
