//! Checks for the notebooks' exercises: they say what is still wrong, and never panic.

use std::fmt::{Debug, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Result, panic_message};

/// The checks of one exercise; made by [`check_exercise`].
#[derive(Debug, Default)]
pub struct Checks {
    right: usize,
    wrong: Vec<String>,
}

impl Checks {
    fn count(&mut self, holds: bool, complaint: impl FnOnce() -> String) -> bool {
        if holds {
            self.right += 1;
        } else {
            self.wrong.push(complaint());
        }
        holds
    }

    /// Checks that `holds` is true; if not, `otherwise` says what is wrong and where to look. Returns `holds`, for
    /// checks that depend on it.
    pub fn that(&mut self, what: &str, holds: bool, otherwise: &str) -> bool {
        self.count(holds, || format!("{what}: {otherwise}"))
    }

    /// Checks that `found` equals `wanted`.
    pub fn equal<T: PartialEq + Debug>(&mut self, what: &str, found: T, wanted: T) -> bool {
        self.count(found == wanted, || format!("{what}: got {found:?}, expected {wanted:?}"))
    }

    /// Checks that `found` differs from `wanted` by at most `tolerance`.
    pub fn close(&mut self, what: &str, found: impl Into<f64>, wanted: impl Into<f64>, tolerance: f64) -> bool {
        let (found, wanted) = (found.into(), wanted.into());
        // Not `>`, so that NaN is wrong.
        let holds = (found - wanted).abs() <= tolerance;
        self.count(holds, || {
            let [mut a, mut b] = [found, wanted].map(|value| format!("{value:.4}"));
            if a == b {
                // They differ after the fourth decimal.
                [a, b] = [found, wanted].map(|value| value.to_string());
            }
            format!("{what}: got {a}, expected {b}")
        })
    }
}

/// Runs `checks` and prints `Exercise 1: right`, or `Exercise 1: not yet, 1 of 3 right` and a line for each failed
/// check. An error from `?` and a panic become such a line too.
///
/// ```
/// use cifar_lab::exercise::check_exercise;
///
/// fn double(x: f64) -> f64 {
///     x + 1.0
/// }
/// check_exercise("Exercise 1", |check| {
///     assert!(check.close("twice 1", double(1.0), 2.0, 1e-9));
///     assert!(!check.close("twice 3", double(3.0), 6.0, 1e-9)); // "twice 3: got 4.0000, expected 6.0000"
///     assert!(check.equal("the number of classes", 10, 10));
///     check.that("the loss falls", 1.2 < 2.3, "it rose: is the sign of the step right?");
///     Ok(())
/// });
/// ```
pub fn check_exercise(name: &str, checks: impl FnOnce(&mut Checks) -> Result<()>) {
    println!("{}", verdict(name, checks));
}

fn verdict(name: impl Display, checks: impl FnOnce(&mut Checks) -> Result<()>) -> String {
    let mut done = Checks::default();
    match catch_unwind(AssertUnwindSafe(|| checks(&mut done))) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => done.wrong.push(format!("your code returned an error: {error}")),
        Err(panic) => done.wrong.push(format!("your code panicked: {}", panic_message(&*panic))),
    }
    if done.wrong.is_empty() {
        return format!("{name}: right");
    }
    let all = done.right + done.wrong.len();
    let lines: String = done.wrong.iter().map(|line| format!("\n  · {line}")).collect();
    format!("{name}: not yet, {} of {all} right{lines}", done.right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn what_is_wrong_is_explained() {
        let text = verdict("Exercise 2", |check| {
            check.equal("the side", 16, 16);
            check.close("the mean", f64::NAN, 0.5, 1e-3);
            check.that("the loss falls", false, "it rose");
            Ok(())
        });
        let wanted =
            "Exercise 2: not yet, 1 of 3 right\n  · the mean: got NaN, expected 0.5000\n  · the loss falls: it rose";
        assert_eq!(text, wanted);
        let text = verdict("Exercise 2", |check| {
            check.close("the rate", 0.05001, 0.05, 1e-9);
            Ok(())
        });
        assert!(text.ends_with("the rate: got 0.05001, expected 0.05"), "{text}");
        let right = verdict("Exercise 2", |check| {
            check.close("a third", 0.333f32, 1.0 / 3.0, 1e-3);
            Ok(())
        });
        assert_eq!(right, "Exercise 2: right");
    }

    #[test]
    fn errors_and_panics_of_the_learner_are_lines_too() {
        let text = verdict("E", |check| {
            check.equal("one", 1, 1);
            Err(Error::Stopped)
        });
        assert!(
            text.starts_with("E: not yet, 1 of 2 right") && text.contains("returned an error: the training"),
            "{text}"
        );
        let text = verdict("E", |_| panic!("index out of bounds"));
        assert_eq!(text, "E: not yet, 0 of 1 right\n  · your code panicked: index out of bounds");
    }
}
