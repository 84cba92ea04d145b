//! A notebook's cells as the text of one program.
//!
//! The cells stand in one function, in their order, as they are. Items are inner items of it, so they see no variables,
//! as in the kernel. Where a cell declares an item again, or one whose name stands for something else before it, the
//! rest of the program goes into a block of its own: there the new one is meant, and before it the old one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::cells::{Cell, CellError, Declared, Dependency};
use crate::notebook::parameters::Parameter;

/// A code cell and what goes with it.
#[derive(Clone, Debug)]
pub struct Part {
    /// The cell's number among the code cells, counted from 1.
    pub number: usize,
    /// What stands in it.
    pub content: Content,
}

/// What is to become of a cell.
#[derive(Clone, Debug)]
pub enum Content {
    /// It is there to fail, so it is left out: its text.
    LeftOut(String),
    /// Its parts, and the parameters that can be set when the program starts.
    Code(Cell, Vec<Parameter>),
}

/// Writes the program of the notebook with this name.
pub fn write(notebook: &str, parts: &[Part]) -> Result<String, (usize, CellError)> {
    let attributes: BTreeSet<&String> = codes(parts).flat_map(|(_, cell, _)| &cell.attributes).collect();
    let attributes: String = attributes.into_iter().map(|attribute| format!("{attribute}\n")).collect();
    let parameters: Vec<(&str, &str)> =
        codes(parts).flat_map(|(_, _, settable)| settable).map(|p| (p.name.as_str(), p.kind.as_str())).collect();
    let count = parts.len();
    let mut text = format!(
        "//! The notebook {notebook}.ipynb as a program: its cells, in their order, written by `cargo lab export`.\n\
         //! Change the notebook and export it again, rather than this file.\n\n\
         // Cells are as free as they are in a notebook.\n\
         #![allow(unused, non_local_definitions, clippy::all)]\n{attributes}\n\
         use cifar_lab::program::{{ShowsDebug as _, ShowsView as _}};\n\n\
         fn main() -> std::process::ExitCode {{\n    \
             cifar_lab::program::run(\n        \
                 &cifar_lab::program::Exported {{\n            \
                     notebook: {notebook:?},\n            \
                     cells: {count},\n            \
                     parameters: &{parameters:?},\n        \
                 }},\n        \
                 cells,\n    \
             )\n}}\n\n\
         fn cells() -> std::result::Result<(), cifar_lab::program::Failure> {{\n",
    );
    let mut scopes = Scopes::default();
    for Part { number, content } in parts {
        match content {
            Content::LeftOut(source) => {
                let _ = writeln!(text, "\n// Cell {number} is there to fail, so it is left out:");
                source.lines().for_each(|line| _ = writeln!(text, "//     {line}"));
            }
            Content::Code(cell, settable) => {
                let again = scopes.enter(*number, cell).map_err(|error| (*number, error))?;
                if !again.is_empty() {
                    let _ = writeln!(text, "\n{{ // From here on another `{}`.", again.join("`, `"));
                }
                let _ = writeln!(text, "\n// Cell {number}\ncifar_lab::program::cell({number});");
                write_cell(&mut text, cell);
                for Parameter { name, kind, binding } in settable {
                    let _ =
                        writeln!(text, "{binding} {name}: {kind} = cifar_lab::program::setting({name:?}, {name})?;");
                }
            }
        }
    }
    let _ = writeln!(text, "\nstd::result::Result::Ok(())\n{}}}", "}\n".repeat(scopes.depth));
    Ok(text)
}

/// The cells that are a part of the program, with their numbers and settable parameters.
fn codes(parts: &[Part]) -> impl Iterator<Item = (usize, &Cell, &Vec<Parameter>)> {
    parts.iter().filter_map(|part| match &part.content {
        Content::Code(cell, settable) => Some((part.number, cell, settable)),
        Content::LeftOut(_) => None,
    })
}

/// The cell's Rust as it stands, with what it shows at its end wrapped.
fn write_cell(text: &mut String, cell: &Cell) {
    let code = cell.code.trim_start_matches(|c: char| c.is_whitespace());
    let begin = cell.code.len() - code.len();
    let written = match &cell.shown {
        // Behind the expression there may be a remark, so the brackets go around it and nothing else.
        Some(shown) => format!(
            "{}(&cifar_lab::program::Shown(&({}))).show_as_text();{}",
            &cell.code[begin..shown.start],
            &cell.code[shown.clone()],
            &cell.code[shown.end..]
        ),
        None => code.to_string(),
    };
    let written = written.trim_end();
    if !written.is_empty() {
        text.push_str(written);
        text.push('\n');
    }
}

/// What has been declared so far.
#[derive(Default)]
struct Scopes {
    /// How many blocks are open.
    depth: usize,
    /// The cell that declared a name last, and what it stands for where that is an import.
    declared: BTreeMap<String, (usize, Option<String>)>,
    /// The variables of all cells so far.
    variables: BTreeSet<String>,
    /// The items that are in reach, with their cells.
    items: Vec<(usize, Declared)>,
    /// Every identifier so far in this block.
    mentions: BTreeSet<String>,
}

impl Scopes {
    /// Takes in the cell with this number; returns the names for which a new block is to be opened before it.
    fn enter(&mut self, number: usize, cell: &Cell) -> Result<Vec<String>, CellError> {
        let mut again = Vec::new();
        for (name, path) in cell.items.iter().flat_map(|item| &item.names) {
            let earlier = self.declared.get(name);
            if let Some((first, first_path)) = earlier
                && let Some(user) = self.user_of(name, first_path.is_some() && first_path == path)
            {
                return Err(CellError::Redeclared { name: name.clone(), first: *first, user });
            }
            if earlier.is_none()
                && let Some((user, _)) = self.items.iter().find(|(_, item)| item.uses.contains(name))
                && path.is_none()
            {
                // The item means what a star import brought; in the kernel it would mean this one from now on.
                return Err(CellError::Shadowed { name: name.clone(), user: *user });
            }
            // A variable goes before an item of its name, and would not in a block around the item.
            if earlier.is_some() || self.mentions.contains(name) && !self.variables.contains(name) {
                again.push(name.clone());
            }
        }
        again.dedup();
        if !again.is_empty() {
            self.depth += 1;
            self.mentions.clear();
        }
        for item in &cell.items {
            for (name, path) in &item.names {
                self.declared.insert(name.clone(), (number, path.clone()));
                // What was declared under that name is out of reach.
                self.items.retain(|(_, earlier)| !earlier.declares(name));
            }
            self.mentions.extend(item.mentions.iter().cloned());
            self.items.push((number, item.clone()));
        }
        self.mentions.extend(cell.mentions.iter().cloned());
        self.variables.extend(cell.variables.iter().cloned());
        Ok(again)
    }

    /// The cell of an item, other than `name` itself, that mentions it.
    fn user_of(&self, name: &str, same_meaning: bool) -> Option<usize> {
        let others = self.items.iter().filter(|(_, item)| !item.declares(name));
        let mut users = others.filter(|(_, item)| item.mentions.contains(name));
        users.next().filter(|_| !same_meaning).map(|(number, _)| *number)
    }
}

/// The program's dependencies, each once.
pub fn dependencies(parts: &[Part]) -> Result<Vec<(usize, Dependency)>, (usize, CellError)> {
    let mut found: Vec<(usize, Dependency)> = Vec::new();
    for (number, cell, _) in codes(parts) {
        for dependency in &cell.dependencies {
            match found.iter().find(|(_, first)| first.name == dependency.name) {
                Some((_, first)) if first.config != dependency.config => {
                    let Dependency { line, name, .. } = dependency.clone();
                    return Err((number, CellError::DependencyTwice { line, name, first: first.config.clone() }));
                }
                Some(_) => {}
                None => found.push((number, dependency.clone())),
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(cells: &[&str]) -> Vec<Part> {
        let part = |(index, source): (usize, &&str)| Part {
            number: index + 1,
            content: Content::Code(Cell::parse(source).unwrap(), Vec::new()),
        };
        cells.iter().enumerate().map(part).collect()
    }

    /// The program without its head, and without empty lines.
    fn body(cells: &[&str]) -> Result<Vec<String>, (usize, CellError)> {
        let text = write("x", &parts(cells))?;
        syn::parse_file(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let (_, body) = text.split_once("Failure> {\n").unwrap();
        let kept = |line: &&str| !line.is_empty() && !line.starts_with("// Cell") && !line.contains("program::cell(");
        Ok(body.lines().filter(kept).map(str::to_string).collect())
    }

    const END: &str = "std::result::Result::Ok(())";

    #[test]
    fn variables_shadow_and_expressions_are_shown() {
        let body = body(&["let a: u8 = 1;", "let a: u8 = a + 1; // more\na   // now 2", "a + 1 // é\n"]).unwrap();
        let expected = [
            "let a: u8 = 1;",
            "let a: u8 = a + 1; // more",
            "(&cifar_lab::program::Shown(&(a))).show_as_text();   // now 2",
            "(&cifar_lab::program::Shown(&(a + 1))).show_as_text(); // é",
            END,
            "}",
        ];
        assert_eq!(body, expected);
    }

    #[test]
    fn an_item_declared_again_opens_a_block() {
        let body = body(&["fn f() -> u8 { 1 }", "f()", "fn f() -> u8 { 2 }", "f()", "fn f() {}\nfn g() {}"]).unwrap();
        let expected = [
            "fn f() -> u8 { 1 }",
            "(&cifar_lab::program::Shown(&(f()))).show_as_text();",
            "{ // From here on another `f`.",
            "fn f() -> u8 { 2 }",
            "(&cifar_lab::program::Shown(&(f()))).show_as_text();",
            "{ // From here on another `f`.",
            "fn f() {}",
            "fn g() {}",
            END,
            "}",
            "}",
            "}",
        ];
        assert_eq!(body, expected);
        let text =
            self::body(&["struct A { x: u8 }\nimpl A {}", "let a: A = A { x: 1 };", "struct A;\nimpl A {}"]).unwrap();
        assert!(text.contains(&"{ // From here on another `A`.".to_string()), "{text:?}");
    }

    #[test]
    fn an_item_on_which_others_are_built_is_not_replaced() {
        let error = |cells: &[&str]| body(cells).unwrap_err();
        let redeclared = |name: &str, first, user| CellError::Redeclared { name: name.to_string(), first, user };
        // In the kernel g would call the new f.
        let found = error(&["fn f() {}", "fn g() { f() }", "fn f() { panic!() }"]);
        assert_eq!(found, (3, redeclared("f", 1, 2)));
        let found = error(&["struct A;", "trait T {}\nimpl T for A {}", "struct A;"]);
        assert_eq!(found, (3, redeclared("A", 1, 2)));
        // What a star brought is meant until then.
        let found = error(&["use x::*;", "fn g() { relu(1) }", "fn relu() {}"]);
        assert_eq!(found, (3, CellError::Shadowed { name: "relu".to_string(), user: 2 }));
    }

    #[test]
    fn what_the_name_stood_for_before_stays() {
        // `softmax` of a star import, then the notebook's own.
        let text = body(&["use x::*;", "softmax(1)", "fn softmax() {}", "softmax()"]).unwrap();
        assert_eq!(text[2], "{ // From here on another `softmax`.");
        // A field is another thing, and a variable goes before an item.
        for second in ["a.train", "let train: u8 = 1;"] {
            let text = body(&[second, "fn train() {}"]).unwrap();
            assert!(!text.iter().any(|line| line.starts_with('{')), "{text:?}");
        }
    }

    #[test]
    fn imports_can_be_repeated() {
        let cells = ["use std::time::Instant;", "fn f() { Instant::now(); }", "use std::time::Instant;"];
        assert_eq!(body(&cells).unwrap()[2], "{ // From here on another `Instant`.");
        let other = ["use std::time::Instant;", "fn f() { Instant::now(); }", "use other::Instant;"];
        assert!(matches!(body(&other).unwrap_err(), (3, CellError::Redeclared { user: 2, .. })));
        let stars = body(&["use x::*;", "use x::*;"]).unwrap();
        assert_eq!(stars, ["use x::*;", "use x::*;", END, "}"]);
    }

    #[test]
    fn a_dependency_is_written_once() {
        let same = parts(&[":dep a = \"1\"", ":dep a = \"1\"\n:dep b"]);
        let names: Vec<String> = dependencies(&same).unwrap().into_iter().map(|(_, d)| d.name).collect();
        assert_eq!(names, ["a", "b"]);
        let error = dependencies(&parts(&[":dep a = \"1\"", ":dep a = \"2\""])).unwrap_err();
        assert!(matches!(error, (2, CellError::DependencyTwice { line: 1, .. })), "{error:?}");
    }

    #[test]
    fn cells_that_are_there_to_fail_are_kept_as_remarks() {
        let mut parts = parts(&["a", "let b = 1;\nb.c", "d"]);
        parts[1].content = Content::LeftOut("let b = 1;\nb.c".to_string());
        let text = write("x", &parts).unwrap();
        assert!(
            text.contains("// Cell 2 is there to fail, so it is left out:\n//     let b = 1;\n//     b.c\n"),
            "{text}"
        );
    }

    #[test]
    fn parameters_can_be_set_when_the_program_starts() {
        let mut parts = parts(&["let epochs: usize = 2;\nlet mut name: &str = \"x\";"]);
        let Content::Code(_, settable) = &mut parts[0].content else { unreachable!() };
        *settable = crate::notebook::parameters::declared("let epochs: usize = 2;\nlet mut name: &str = \"x\";");
        let text = write("x", &parts).unwrap();
        assert!(text.contains("parameters: &[(\"epochs\", \"usize\"), (\"name\", \"&str\")],"), "{text}");
        assert!(text.contains("let epochs: usize = cifar_lab::program::setting(\"epochs\", epochs)?;"), "{text}");
        assert!(text.contains("let mut name: &str = cifar_lab::program::setting(\"name\", name)?;"), "{text}");
    }
}
