//! The metadata by which a notebook describes its test:
//!
//! ```json
//! "cifar_lab": {
//!   "test_settings": {"epochs": 1, "images": 640},
//!   "expect": [{"pattern": "Accuracy .*: ([0-9.]+) %", "min": 15, "max": 100}]
//! }
//! ```
//! `test_settings` are small values for its parameters, checked like those of `--set`. Each `pattern` is a regular
//! expression with one group. It is searched for in the output of all cells, and at its last match the group must be a
//! number from `min` to `max`.
//!
//! Each code cell is executed twice in a row, as learners do, and must pass twice, unless it has the tag `run-once`.

use std::path::Path;

use regex::Regex;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::notebook::Notebook;
use crate::notebook::parameters::{self, Setting};
use crate::repository::stem;

/// A number that the notebook must print, and its range.
#[derive(Clone, Debug)]
pub struct Expectation {
    pattern: Regex,
    least: f64,
    most: f64,
}

/// A notebook with what its test needs.
pub struct Trial {
    /// The notebook with its test settings applied.
    pub notebook: Notebook,
    /// Those settings.
    pub settings: Vec<Setting>,
    /// What its output must contain.
    pub expected: Vec<Expectation>,
}

impl Trial {
    /// Reads the notebook at `path`.
    pub fn read(path: &Path) -> Result<Self> {
        let mut notebook = Notebook::read(path)?;
        let settings = test_settings(&notebook, path)?;
        let expected = expectations(&notebook, path)?;
        parameters::set(&mut notebook, &stem(path), &settings)?;
        Ok(Self { notebook, settings, expected })
    }
}

fn test_settings(notebook: &Notebook, path: &Path) -> Result<Vec<Setting>> {
    let wrong = |reason: String| Error::BadExpectation { path: path.to_path_buf(), field: "test_settings", reason };
    let settings = match notebook.own_metadata("test_settings") {
        Value::Null => return Ok(Vec::new()),
        Value::Object(settings) => settings,
        other => return Err(wrong(format!("{other} isn't an object of names and values"))),
    };
    let setting = |(name, value): (&String, &Value)| match value {
        Value::String(text) => Ok(Setting { name: name.clone(), value: text.clone() }),
        Value::Number(_) | Value::Bool(_) => Ok(Setting { name: name.clone(), value: value.to_string() }),
        other => Err(wrong(format!("{name}: {other} isn't a number, string or Boolean"))),
    };
    settings.iter().map(setting).collect()
}

fn expectations(notebook: &Notebook, path: &Path) -> Result<Vec<Expectation>> {
    let wrong = |reason: String| Error::BadExpectation { path: path.to_path_buf(), field: "expect", reason };
    let list = match notebook.own_metadata("expect") {
        Value::Null => return Ok(Vec::new()),
        Value::Array(list) => list,
        other => return Err(wrong(format!("{other} isn't a list"))),
    };
    list.iter().map(|entry| Expectation::parse(entry).map_err(wrong)).collect()
}

impl Expectation {
    fn parse(entry: &Value) -> Result<Self, String> {
        let fields = entry.as_object().ok_or(format!("{entry} isn't an object"))?;
        if let Some(unknown) = fields.keys().find(|name| !["pattern", "min", "max"].contains(&name.as_str())) {
            return Err(format!("unknown key {unknown}; expected pattern, min and max"));
        }
        let pattern = entry["pattern"].as_str().ok_or(format!("{entry} has no pattern"))?;
        let pattern = Regex::new(pattern).map_err(|error| error.to_string())?;
        if pattern.captures_len() != 2 {
            return Err(format!("{pattern} must have exactly one group, (…), for the number"));
        }
        let (least, most) = (entry["min"].as_f64(), entry["max"].as_f64());
        if least.is_none() && most.is_none() {
            return Err(format!("{pattern} has neither min nor max"));
        }
        Ok(Self { pattern, least: least.unwrap_or(f64::NEG_INFINITY), most: most.unwrap_or(f64::INFINITY) })
    }

    /// What is wrong, if anything, with the notebook's output.
    pub fn problem(&self, printed: &str) -> Option<String> {
        let Some(captures) = self.pattern.captures_iter(printed).last() else {
            return Some(format!("no output matches {}", self.pattern));
        };
        let text = captures.get(1).map_or("", |group| group.as_str());
        match text.parse::<f64>() {
            Ok(number) if (self.least..=self.most).contains(&number) => None,
            Ok(number) => Some(format!("{}: {number} is outside {} to {}", self.pattern, self.least, self.most)),
            Err(_) => Some(format!("{}: {text:?} isn't a number", self.pattern)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn expectation(entry: Value) -> Result<Expectation, String> {
        Expectation::parse(&entry)
    }

    #[test]
    fn the_last_number_must_lie_in_the_range() {
        let accuracy = expectation(json!({"pattern": "accuracy: ([0-9.]+) %", "min": 20, "max": 99.5})).unwrap();
        assert_eq!(accuracy.problem("accuracy: 10.0 %\naccuracy: 64.25 %\n"), None);
        assert!(accuracy.problem("accuracy: 64.25 %\naccuracy: 10 %").unwrap().contains("10 is outside 20 to 99.5"));
        assert!(accuracy.problem("loss 2.3").unwrap().contains("no output matches"));
        assert!(accuracy.problem("accuracy: ... %").unwrap().contains("isn't a number"));
        let loss = expectation(json!({"pattern": "loss (\\S+)", "max": 2.3})).unwrap();
        assert!(loss.problem("loss NaN").is_some(), "NaN lies in no range");
    }

    #[test]
    fn malformed_expectations_are_errors() {
        for entry in [
            json!("x"),
            json!({"min": 1}),
            json!({"pattern": "(", "min": 1}),
            json!({"pattern": "x", "min": 1}),
            json!({"pattern": "(x)(y)", "min": 1}),
            json!({"pattern": "(x)"}),
            json!({"pattern": "(x)", "min": 1, "least": 2}),
        ] {
            assert!(expectation(entry.clone()).is_err(), "{entry}");
        }
    }
}
