//! The cell tagged `parameters`, a convention of papermill, and `--set name=value`, checked against its types.
//!
//! ```text
//! let epochs: usize = 20;
//! let learning_rate: f64 = 1e-3;
//! let device: &str = "auto";
//! ```

use std::sync::LazyLock;

use regex::Regex;

use crate::error::{Error, Result};
use crate::notebook::{INJECTED, Kind, Notebook, PARAMETERS};

/// A parameter that a notebook declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    /// Its type, as declared.
    pub kind: String,
    /// `let` or `let mut`.
    pub binding: String,
}

impl Parameter {
    /// Whether its type is one that `--set` knows.
    pub fn is_settable(&self) -> bool {
        // A known type takes at least one of these.
        ["0", "false", ""].iter().any(|value| literal(&self.kind, value).is_ok())
    }
}

/// A parameter's name, and the value given for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    pub value: String,
}

impl Setting {
    /// Reads `name=value`.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, value) = text.split_once('=').ok_or(Error::BadSetting)?;
        let (name, value) = (name.trim().to_string(), value.trim().to_string());
        if name.is_empty() { Err(Error::BadSetting) } else { Ok(Self { name, value }) }
    }
}

/// The parameters that a cell's text declares.
pub fn declared(source: &str) -> Vec<Parameter> {
    static LINE: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = r"^\s*(let(?: mut)?)\s+([A-Za-z_][A-Za-z0-9_]*)\s*:\s*([^=;]+?)\s*=[^=]";
        Regex::new(pattern).expect("valid")
    });
    let lines = source.lines().filter_map(|line| LINE.captures(line));
    lines.map(|c| Parameter { binding: c[1].to_string(), name: c[2].to_string(), kind: c[3].to_string() }).collect()
}

/// The first line of the cell with settings.
const FROM_OUTSIDE: &str = "// Set from outside; overrides the values above.";

/// Overrides parameters of `notebook`, which is called `name`, in a cell after the one that declares them, which has the
/// settings of earlier runs, too, if it is a copy. If a setting is wrong, the notebook stays as it is.
pub fn set(notebook: &mut Notebook, name: &str, settings: &[Setting]) -> Result<()> {
    if settings.is_empty() {
        return Ok(());
    }
    let cells = notebook.code_cells();
    let Some((index, source)) = cells.into_iter().find(|(index, _)| notebook.is_tagged(*index, PARAMETERS)) else {
        return Err(Error::NoParameters { notebook: name.to_string() });
    };
    let parameters = declared(&source);
    let mut lines = Vec::new();
    for setting in settings {
        let Some(parameter) = parameters.iter().find(|parameter| parameter.name == setting.name) else {
            return Err(Error::UnknownParameter {
                notebook: name.to_string(),
                name: setting.name.clone(),
                known: parameters.iter().map(|known| format!("{}: {}", known.name, known.kind)).collect(),
            });
        };
        let value = literal(&parameter.kind, &setting.value).map_err(|expected| Error::IllTypedParameter {
            name: setting.name.clone(),
            value: setting.value.clone(),
            kind: parameter.kind.clone(),
            expected,
        })?;
        lines.push(format!("{} {}: {} = {value};", parameter.binding, parameter.name, parameter.kind));
    }
    let earlier = notebook.remove_tagged(INJECTED).join("\n");
    let earlier = earlier.lines().filter(|line| *line != FROM_OUTSIDE).map(str::to_string);
    let all: Vec<String> = std::iter::once(FROM_OUTSIDE.to_string()).chain(earlier).chain(lines).collect();
    notebook.insert(index + 1, Kind::Code, INJECTED, &all.join("\n"));
    Ok(())
}

/// Gives `notebook` the settings of an earlier copy of it.
pub fn set_as_in(notebook: &mut Notebook, earlier: &Notebook) {
    let injected = earlier.code_cells().into_iter().find(|(index, _)| earlier.is_tagged(*index, INJECTED));
    let declaring = notebook.code_cells().into_iter().find(|(index, _)| notebook.is_tagged(*index, PARAMETERS));
    if let Some(((_, settings), (index, _))) = injected.zip(declaring) {
        notebook.remove_tagged(INJECTED);
        notebook.insert(index + 1, Kind::Code, INJECTED, &settings);
    }
}

/// `value` as a Rust literal of type `kind`, or what that type takes.
fn literal(kind: &str, value: &str) -> Result<String, String> {
    fn integer<T: std::str::FromStr + std::fmt::Display>(value: &str, least: T, most: T) -> Result<String, String> {
        let parsed: Result<T, _> = value.replace('_', "").parse();
        parsed.map(|number| number.to_string()).map_err(|_| format!("an integer from {least} to {most}"))
    }
    fn float<T: std::str::FromStr + std::fmt::Debug + Into<f64> + Copy>(value: &str) -> Result<String, String> {
        // Debug always writes a point or an exponent, so the literal is a floating-point one.
        let finite = value.replace('_', "").parse::<T>().ok().filter(|number| (*number).into().is_finite());
        finite.map(|number| format!("{number:?}")).ok_or("a finite number, for example 0.001 or 1e-3".to_string())
    }
    match kind {
        "u8" => integer(value, u8::MIN, u8::MAX),
        "u16" => integer(value, u16::MIN, u16::MAX),
        "u32" => integer(value, u32::MIN, u32::MAX),
        "u64" => integer(value, u64::MIN, u64::MAX),
        "usize" => integer(value, usize::MIN, usize::MAX),
        "i32" => integer(value, i32::MIN, i32::MAX),
        "i64" => integer(value, i64::MIN, i64::MAX),
        "isize" => integer(value, isize::MIN, isize::MAX),
        "f32" => float::<f32>(value),
        "f64" => float::<f64>(value),
        "bool" => match value {
            "true" | "false" => Ok(value.to_string()),
            _ => Err("true or false".to_string()),
        },
        // Debug escapes characters as Rust's literals do.
        "&str" | "&'static str" => Ok(format!("{value:?}")),
        "String" => Ok(format!("String::from({value:?})")),
        _ => Err("a change in the notebook itself: --set knows integers, f32, f64, bool, &str and String".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notebook::text;
    use serde_json::json;

    const CELL: &str = "// What to try\nlet epochs: usize = 20; // rounds\nlet learning_rate: f64 = 1e-3;\n\
        let device: &str = \"auto\";\nlet mut name: String = String::from(\"a = b\");\nlet shift: i32 = -1;\nlet flip: bool = true;\n\
        let sizes: Vec<usize> = vec![1];";

    fn notebook() -> Notebook {
        let mut notebook = Notebook::from_cells(["use x;", CELL, "train()"]);
        notebook.cells_mut()[1]["metadata"]["tags"] = json!(["parameters"]);
        notebook
    }

    fn try_set(settings: &[&str]) -> Result<String> {
        let mut notebook = notebook();
        let settings: Vec<Setting> = settings.iter().map(|text| Setting::parse(text)).collect::<Result<_>>()?;
        set(&mut notebook, "00", &settings)?;
        assert!(notebook.is_tagged(2, INJECTED));
        Ok(text(&notebook.cells()[2]["source"]))
    }

    #[test]
    fn values_become_typed_lines_behind_the_cell() {
        let source =
            try_set(&["epochs=2", "learning_rate=1", "device=cuda \"0\"", "name=x", "shift=-3", "flip=false"]).unwrap();
        let lines: Vec<&str> = source.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "let epochs: usize = 2;",
                "let learning_rate: f64 = 1.0;",
                "let device: &str = \"cuda \\\"0\\\"\";",
                "let mut name: String = String::from(\"x\");",
                "let shift: i32 = -3;",
                "let flip: bool = false;",
            ]
        );
    }

    #[test]
    fn settings_are_taken_from_an_earlier_copy() {
        let (mut earlier, mut again) = (notebook(), notebook());
        set_as_in(&mut again, &earlier);
        assert_eq!(again, notebook());
        set(&mut earlier, "nb", &[Setting::parse("epochs=2").unwrap()]).unwrap();
        set_as_in(&mut again, &earlier);
        assert_eq!(again, earlier);
        // Of a copy, too, the last setting counts.
        set(&mut again, "nb", &[Setting::parse("epochs=3_0").unwrap()]).unwrap();
        assert_eq!(
            text(&again.cells()[2]["source"]),
            format!("{FROM_OUTSIDE}\nlet epochs: usize = 2;\nlet epochs: usize = 30;")
        );
        assert_eq!(again.cells().len(), earlier.cells().len());
    }

    #[test]
    fn some_types_cannot_be_set() {
        let settable: Vec<bool> = declared(CELL).iter().map(Parameter::is_settable).collect();
        assert_eq!(settable, [true, true, true, true, true, true, false]);
    }

    #[test]
    fn ill_typed_values_say_what_is_wanted() {
        for (setting, wanted) in [
            ("epochs=two", "an integer from 0"),
            ("epochs=-1", "an integer from 0"),
            ("epochs=1.5", "an integer"),
            ("epochs=", "an integer"),
            ("shift=3000000000", "2147483647"),
            ("learning_rate=fast", "finite number"),
            ("learning_rate=inf", "finite number"),
            ("flip=yes", "true or false"),
            ("sizes=1", "a change in the notebook itself"),
        ] {
            let error = try_set(&[setting]).unwrap_err();
            assert!(matches!(error, Error::IllTypedParameter { .. }) && error.to_string().contains(wanted), "{error}");
        }
    }

    #[test]
    fn unknown_names_list_the_known() {
        let error = try_set(&["epoch=2"]).unwrap_err().to_string();
        assert!(error.contains("epochs: usize, learning_rate: f64"), "{error}");
        assert!(matches!(try_set(&["epochs"]), Err(Error::BadSetting)));
        assert!(matches!(try_set(&["=1"]), Err(Error::BadSetting)));
    }

    #[test]
    fn without_the_cell_nothing_can_be_set() {
        let mut notebook = Notebook::from_cells(["let epochs: usize = 1;"]);
        let setting = Setting::parse("epochs=2").unwrap();
        assert!(matches!(set(&mut notebook, "x", &[setting]), Err(Error::NoParameters { .. })));
        assert!(set(&mut notebook, "x", &[]).is_ok());
    }
}
