//! Reading, changing and writing `.ipynb` files. What isn't changed stays as it is.
//!
//! - [`parameters`]: the cell tagged `parameters`, and `--set`.

pub mod parameters;

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::atomic_file::write_atomically;
use crate::error::{Error, Result};

/// Jupyter's tag of a cell that is meant to fail.
pub const RAISES: &str = "raises-exception";
/// papermill's tag for the cell that declares parameters.
pub const PARAMETERS: &str = "parameters";
/// papermill's tag for the cell that overrides them.
pub const INJECTED: &str = "injected-parameters";

/// A notebook, as in its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Notebook(Value);

impl Notebook {
    /// Reads the notebook at `path`.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::file("read", path))?;
        Self::parse(&bytes).map_err(|reason| Error::BadNotebook { path: path.to_path_buf(), reason })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| format!("it isn't JSON: {error}"))?;
        if value["nbformat"] != 4 {
            return Err("it isn't in notebook format 4; open it in JupyterLab and save it".to_string());
        }
        let cells = value["cells"].as_array().ok_or("it has no cells")?;
        // Whoever changes a cell relies on that.
        let is_cell = |cell: &Value| cell.is_object() && (cell["metadata"].is_object() || cell["metadata"].is_null());
        if let Some(index) = cells.iter().position(|cell| !is_cell(cell)) {
            return Err(format!("its cell {} isn't in notebook format 4", index + 1));
        }
        match other_language(&value["metadata"]) {
            Some(other) => Err(format!(
                "{other}, not Rust; if its cells are Rust, choose the kernel Rust in JupyterLab and save it"
            )),
            None => Ok(Self(value)),
        }
    }

    /// A notebook of code cells.
    pub fn from_cells<'a>(cells: impl IntoIterator<Item = &'a str>) -> Self {
        let cells: Vec<Value> =
            cells.into_iter().enumerate().map(|(index, code)| code_cell(&format!("cell-{index}"), code)).collect();
        let kernelspec = json!({"display_name": "Rust", "language": "rust", "name": "rust"});
        Self(json!({"cells": cells, "metadata": {"kernelspec": kernelspec}, "nbformat": 4, "nbformat_minor": 5}))
    }

    /// Writes the notebook in Jupyter's form: sorted keys, indented by one space.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut bytes = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        serde::Serialize::serialize(&sorted(&self.0), &mut serializer)
            .map_err(|error| Error::file("write", path)(error.into()))?;
        bytes.push(b'\n');
        write_atomically(path, &bytes).map_err(Error::file("write", path))
    }

    /// All cells.
    pub fn cells(&self) -> &[Value] {
        self.0["cells"].as_array().map_or(&[], Vec::as_slice)
    }

    fn cells_mut(&mut self) -> &mut Vec<Value> {
        self.0["cells"].as_array_mut().expect("every constructor makes sure of that")
    }

    /// `metadata.cifar_lab.<field>`, or null.
    pub fn own_metadata(&self, field: &str) -> &Value {
        &self.0["metadata"]["cifar_lab"][field]
    }

    /// Whether the cell at `index` has this tag.
    pub fn is_tagged(&self, index: usize, tag: &str) -> bool {
        self.cells().get(index).is_some_and(|cell| has_tag(cell, tag))
    }

    /// Sets the only tag of the cell at `index`.
    pub fn tag(&mut self, index: usize, tag: &str) {
        self.cells_mut()[index]["metadata"]["tags"] = json!([tag]);
    }

    /// Inserts a cell with this tag before `index`.
    pub fn insert(&mut self, index: usize, kind: Kind, tag: &str, content: &str) {
        let mut cell = match kind {
            Kind::Code => code_cell(tag, content),
            Kind::Markdown => json!({"cell_type": "markdown", "id": tag, "metadata": {}, "source": content}),
        };
        cell["metadata"]["tags"] = json!([tag]);
        // Formats before 4.5 have no ids.
        if self.0["nbformat_minor"].as_u64().unwrap_or(0) < 5
            && let Some(fields) = cell.as_object_mut()
        {
            fields.remove("id");
        }
        let index = index.min(self.cells().len());
        self.cells_mut().insert(index, cell);
    }

    /// Removes the cells with this tag, and returns their text.
    pub fn remove_tagged(&mut self, tag: &str) -> Vec<String> {
        let removed = self.cells().iter().filter(|cell| has_tag(cell, tag)).map(|cell| text(&cell["source"])).collect();
        self.cells_mut().retain(|cell| !has_tag(cell, tag));
        removed
    }

    /// The code cells that aren't empty, with their indices among all cells.
    pub fn code_cells(&self) -> Vec<(usize, String)> {
        let is_code = |cell: &Value| cell["cell_type"] == "code";
        let cells = self.cells().iter().enumerate().filter(|(_, cell)| is_code(cell));
        cells
            .map(|(index, cell)| (index, text(&cell["source"])))
            .filter(|(_, source)| !source.trim().is_empty())
            .collect()
    }

    /// Takes outputs and execution counts from an executed copy of this notebook, without injected cells. Fails, with
    /// the reason, if the other cells differ.
    pub fn take_outputs(&mut self, executed: &Notebook) -> Result<(), String> {
        let theirs: Vec<&Value> = executed.cells().iter().filter(|cell| !has_tag(cell, INJECTED)).collect();
        let own = || self.cells().iter().filter(|cell| !has_tag(cell, INJECTED));
        let same = theirs.len() == own().count()
            && own().zip(&theirs).all(|(own, their)| text(&own["source"]) == text(&their["source"]));
        if !same {
            return Err("its cells changed while it ran".to_string());
        }
        for (own, their) in self.cells_mut().iter_mut().filter(|cell| !has_tag(cell, INJECTED)).zip(theirs) {
            if own["cell_type"] == "code" {
                own["outputs"] = their["outputs"].clone();
                own["execution_count"] = their["execution_count"].clone();
            }
        }
        Ok(())
    }

    /// Sets a cell's outputs.
    #[cfg(test)]
    pub fn set_outputs(&mut self, index: usize, outputs: Vec<Value>) {
        self.cells_mut()[index]["outputs"] = Value::Array(outputs);
    }

    /// Everything that a cell has printed or shown as text: streams and `text/plain`.
    pub fn printed(&self, index: usize) -> String {
        let outputs = self.cells()[index]["outputs"].as_array();
        let texts =
            outputs.into_iter().flatten().map(|output| text(&output["text"]) + &text(&output["data"]["text/plain"]));
        texts.collect::<Vec<_>>().join("\n")
    }

    /// The same for all cells, in order.
    pub fn all_printed(&self) -> String {
        (0..self.cells().len()).map(|index| self.printed(index)).collect::<Vec<_>>().join("\n")
    }
}

/// The kind of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rust.
    Code,
    /// Prose.
    Markdown,
}

/// A notebook's language or kernel, if it isn't Rust. Every field is optional, and tools leave out different ones:
/// Colab the kernel's language, VS Code the kernel until one is chosen, Jupytext both. A notebook without any counts as
/// Rust.
fn other_language(metadata: &Value) -> Option<String> {
    let said = |value: &Value| value.as_str().map(|text| text.trim().to_string()).filter(|text| !text.is_empty());
    let kernel = said(&metadata["kernelspec"]["name"]);
    let of_rust = |kernel: &String| ["rust", "evcxr"].iter().any(|name| kernel.to_ascii_lowercase().contains(name));
    // The kernel would execute it; `language_info` is of the kernel that last did.
    let language = said(&metadata["kernelspec"]["language"])
        .or_else(|| kernel.clone().filter(of_rust).map(|_| "rust".to_string()))
        .or_else(|| said(&metadata["language_info"]["name"]))
        .or_else(|| said(&metadata["jupytext"]["main_language"]));
    match language {
        Some(language) => (!language.eq_ignore_ascii_case("rust")).then(|| format!("its language is {language}")),
        None => kernel.map(|kernel| format!("its kernel is {kernel}")),
    }
}

/// A text in a notebook, which may be a string or a list of lines.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        _ => String::new(),
    }
}

fn code_cell(id: &str, source: &str) -> Value {
    json!({"cell_type": "code", "execution_count": null, "id": id, "metadata": {}, "outputs": [], "source": source})
}

fn has_tag(cell: &Value, tag: &str) -> bool {
    cell["metadata"]["tags"].as_array().is_some_and(|tags| tags.iter().any(|own| own == tag))
}

/// The value with the keys of all objects sorted, with whichever map serde_json was compiled.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        Value::Object(fields) => {
            let mut entries: Vec<(&String, &Value)> = fields.iter().collect();
            entries.sort_by_key(|(name, _)| *name);
            Value::Object(entries.into_iter().map(|(name, value)| (name.clone(), sorted(value))).collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_rust_notebook_is_refused() {
        for (text, reason) in [
            ("hello", "isn't JSON"),
            ("{}", "format 4"),
            (r#"{"nbformat": 4}"#, "no cells"),
            (r#"{"nbformat": 4, "cells": [{}, 1]}"#, "cell 2 isn't in"),
            (r#"{"nbformat": 4, "cells": [{"metadata": "a"}]}"#, "cell 1 isn't in"),
            (
                r#"{"nbformat": 4, "cells": [], "metadata": {"kernelspec": {"language": "python"}}}"#,
                "is python, not Rust",
            ),
        ] {
            let error = Notebook::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn the_language_is_found_wherever_a_tool_writes_it() {
        let kernel = |name: &str| json!({"kernelspec": {"name": name, "display_name": name}});
        for (metadata, other) in [
            (json!({}), None),
            (json!({"kernelspec": {}, "language_info": {"name": ""}}), None),
            (kernel("rust"), None),
            (kernel("Rust-1.95"), None),
            (kernel("evcxr_jupyter"), None),
            (json!({"language_info": {"name": "Rust", "file_extension": ".rs"}}), None),
            (json!({"kernelspec": {"name": "conda-lab", "language": "RUST"}}), None),
            (json!({"kernelspec": {"name": "conda-lab"}, "language_info": {"name": "rust"}}), None),
            // The kernel was changed to Rust, and nothing executed since.
            (json!({"kernelspec": {"name": "rust"}, "language_info": {"name": "python"}}), None),
            // As Colab saves, for Python and for R.
            (kernel("python3"), Some("its kernel is python3")),
            (kernel("ir"), Some("its kernel is ir")),
            (kernel("julia-1.10"), Some("its kernel is julia-1.10")),
            (
                json!({"kernelspec": {"name": "python3"}, "language_info": {"name": "python"}}),
                Some("language is python"),
            ),
            (json!({"kernelspec": {"name": "deno", "language": "typescript"}}), Some("language is typescript")),
            (json!({"kernelspec": {"name": "python3", "language": null}}), Some("its kernel is python3")),
            // As VS Code saves before a kernel is chosen.
            (json!({"language_info": {"name": "python"}}), Some("language is python")),
            (json!({"jupytext": {"main_language": "julia"}}), Some("language is julia")),
        ] {
            let found = other_language(&metadata);
            assert!(
                found.as_deref().is_none_or(|found| other.is_some_and(|other| found.contains(other))),
                "{metadata}"
            );
            assert_eq!(found.is_some(), other.is_some(), "{metadata}: {found:?}");
        }
    }

    #[test]
    fn writing_is_jupyters_form_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ipynb");
        let notebook = Notebook::from_cells(["1 + 1", "\"é\""]);
        notebook.write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("{\n \"cells\": [\n  {\n   \"cell_type\": \"code\",\n   \"execution_count\": null,"),
            "{text}"
        );
        assert!(text.ends_with("}\n") && text.contains('é'));
        assert_eq!(Notebook::read(&path).unwrap(), notebook);
    }

    #[test]
    fn outputs_come_over_without_the_injected_cell() {
        let mut notebook = Notebook::from_cells(["let epochs: usize = 1;", "epochs"]);
        let mut executed = notebook.clone();
        executed.cells_mut()[1]["outputs"] = json!([{"output_type": "stream", "name": "stdout", "text": "1\n"}]);
        executed.cells_mut()[1]["execution_count"] = json!(3);
        executed.insert(1, Kind::Code, INJECTED, "let epochs: usize = 2;");
        notebook.take_outputs(&executed).unwrap();
        assert_eq!(notebook.cells().len(), 2);
        assert_eq!(notebook.printed(1), "1\n");
        assert_eq!(notebook.cells()[1]["execution_count"], 3);
        assert!(notebook.take_outputs(&Notebook::from_cells(["other"])).is_err());
    }
}
