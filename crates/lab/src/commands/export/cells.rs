//! A code cell, taken apart as the kernel does it: its commands, its items, and the expression that it shows.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::LazyLock;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use regex::Regex;
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{Attribute, Block, Item, Stmt, UseTree};

/// Commands of the kernel that change nothing of what a program computes or prints; a program leaves them out.
const WITHOUT_EFFECT: [&str; 27] = [
    ":allow_static_linking",
    ":build_env",
    ":cache",
    ":clear_cache",
    ":codegen_backend",
    ":doc",
    // It takes effect when the process is started again.
    ":env",
    ":explain",
    ":help",
    ":internal_debug",
    ":last_compile_dir",
    ":last_error_json",
    ":linker",
    ":offline",
    ":opt",
    ":preserve_vars_on_panic",
    ":quiet",
    ":sccache",
    ":show_deps",
    ":t",
    ":time_passes",
    ":timing",
    ":toolchain",
    ":type",
    ":types",
    ":vars",
    ":version",
];

/// Why a cell can't become a part of a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CellError {
    /// It is no Rust, or incomplete.
    #[error("is no Rust that can be read, line {line}: {message}; does the cell run in the notebook?")]
    Syntax {
        /// The line in the cell, counted from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A command of the kernel that a program has no counterpart for.
    #[error("line {line}: a program has no {command}; remove the line")]
    Command {
        /// The line in the cell, counted from 1.
        line: usize,
        /// The command.
        command: String,
    },
    /// A line for the shell.
    #[error("line {line}: a program runs no shell command ({command}); remove the line")]
    Shell {
        /// The line in the cell, counted from 1.
        line: usize,
        /// What stands behind the exclamation mark.
        command: String,
    },
    /// A dependency that can't be read or found.
    #[error("line {line}: can't read the dependency {dependency:?}: {reason}")]
    Dependency {
        /// The line in the cell, counted from 1.
        line: usize,
        /// What stands behind `:dep`.
        dependency: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A second dependency of the same name that says something else.
    #[error("line {line}: {name} is a dependency already, and another one: {first}")]
    DependencyTwice {
        /// The line in the cell, counted from 1.
        line: usize,
        /// The crate's name.
        name: String,
        /// What the first says.
        first: String,
    },
    /// An item that replaces an earlier one on which others were built. In the kernel they would follow the new one.
    #[error(
        "declares {name} again (first in cell {first}), and cell {user} uses it in an item: a program can't say which of \
         the two is meant; rename one of them"
    )]
    Redeclared {
        /// The item's name.
        name: String,
        /// The code cell, counted from 1, that declared it first.
        first: usize,
        /// The code cell whose item uses it.
        user: usize,
    },
    /// An item whose name stood for something else in an earlier item.
    #[error(
        "declares {name}, and an item of cell {user} uses another {name}: in the notebook that item follows the new one \
         from now on, which a program can't do; rename one of them"
    )]
    Shadowed {
        /// The item's name.
        name: String,
        /// The code cell, counted from 1, whose item uses the other one.
        user: usize,
    },
}

/// A crate that a cell asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The line in the cell, counted from 1.
    pub line: usize,
    /// The crate's name, or a path that leads to it.
    pub name: String,
    /// As Cargo.toml has it: `"1.0"`, `{ path = "…" }`; any version where the cell says none.
    pub config: String,
}

/// An item of a cell: a function, a type, an `impl`, an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// The names that it brings, each with what it stands for where that is an import.
    pub names: Vec<(String, Option<String>)>,
    /// Every identifier in it.
    pub mentions: BTreeSet<String>,
    /// Those that are called, made or begin a path there: `name(`, `Name {`, `name!(`, `name::`, `Name<`.
    pub uses: BTreeSet<String>,
}

impl Declared {
    /// Whether it brings this name.
    pub fn declares(&self, name: &str) -> bool {
        self.names.iter().any(|(own, _)| own == name)
    }
}

/// A code cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// The crates that it asks for.
    pub dependencies: Vec<Dependency>,
    /// `#![…]` of the whole program.
    pub attributes: Vec<String>,
    /// The Rust in it, as it stands in the cell; commands and attributes are blanked.
    pub code: String,
    /// Where in `code` the expression is that the notebook shows.
    pub shown: Option<Range<usize>>,
    /// Its items; an `impl` belongs to the item before it in the same cell, as in the kernel.
    pub items: Vec<Declared>,
    /// The names of the variables that it declares at its top.
    pub variables: BTreeSet<String>,
    /// Every identifier outside of its items.
    pub mentions: BTreeSet<String>,
}

impl Cell {
    /// Takes a cell's text apart.
    pub fn parse(source: &str) -> Result<Self, CellError> {
        let mut cell = Self::default();
        let begin = cell.read_commands(source)?;
        // Lines and columns stay in their place.
        cell.code = blank(&source[..begin]) + &source[begin..];
        let parse = |input: ParseStream<'_>| Ok((Attribute::parse_inner(input)?, Block::parse_within(input)?));
        let (attributes, statements) = parse
            .parse_str(&cell.code)
            .map_err(|error| CellError::Syntax { line: error.span().start().line, message: error.to_string() })?;
        let whole = cell.code.clone();
        for attribute in attributes {
            let range = attribute.span().byte_range();
            cell.attributes.push(whole[range.clone()].to_string());
            cell.code.replace_range(range.clone(), &blank(&whole[range]));
        }
        for statement in &statements {
            cell.read_statement(&whole, statement);
        }
        cell.shown = match statements.last() {
            Some(Stmt::Expr(expression, None)) => Some(expression.span().byte_range()),
            Some(Stmt::Macro(call)) if call.semi_token.is_none() => Some(call.span().byte_range()),
            _ => None,
        };
        Ok(cell)
    }

    /// Reads the commands at the cell's head; returns where its Rust begins.
    fn read_commands(&mut self, source: &str) -> Result<usize, CellError> {
        static COMMAND: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^ *(:[^ ]*)(?: +(.*))?$").expect("valid"));
        let mut begin = 0;
        for (index, line) in source.split_inclusive('\n').enumerate() {
            let (number, text) = (index + 1, line.trim_end_matches(['\n', '\r']));
            if let Some(command) = text.strip_prefix('!') {
                return Err(CellError::Shell { line: number, command: command.trim().to_string() });
            } else if let Some(captures) = COMMAND.captures(text) {
                let argument = captures.get(2).map_or("", |group| group.as_str());
                match &captures[1] {
                    ":dep" => self.dependencies.push(read_dependency(number, argument)?),
                    command if WITHOUT_EFFECT.contains(&command) => {}
                    command => return Err(CellError::Command { line: number, command: command.to_string() }),
                }
            } else if !text.starts_with("//") && !text.trim().is_empty() {
                break;
            }
            begin += line.len();
        }
        Ok(begin)
    }

    fn read_statement(&mut self, source: &str, statement: &Stmt) {
        let text = &source[statement.span().byte_range()];
        let mut words = Words::default();
        // What syn has read, this reads too.
        words.read(text.parse().unwrap_or_default());
        match statement {
            Stmt::Item(item) => {
                let names = names(item);
                let Words { mentions, uses } = words;
                match self.items.last_mut() {
                    Some(last) if matches!(item, Item::Impl(_)) => {
                        last.mentions.extend(mentions);
                        last.uses.extend(uses);
                    }
                    _ => self.items.push(Declared { names, mentions, uses }),
                }
            }
            Stmt::Local(local) => {
                variables(&local.pat, &mut self.variables);
                self.mentions.extend(words.mentions);
            }
            _ => self.mentions.extend(words.mentions),
        }
    }
}

/// `text` as comments are to the compiler: every line in its place, with nothing in it.
fn blank(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { "\n".to_string() } else { " ".repeat(c.len_utf8()) }).collect()
}

fn read_dependency(line: usize, text: &str) -> Result<Dependency, CellError> {
    static FORM: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^([^= ]+) *(?:= *(.+))?$").expect("valid"));
    let captures = FORM.captures(text.trim()).ok_or_else(|| CellError::Dependency {
        line,
        dependency: text.to_string(),
        reason: "`:dep name` or `:dep name = …` is wanted".to_string(),
    })?;
    let name = captures[1].to_string();
    let config = match captures.get(2) {
        Some(config) => config.as_str().to_string(),
        None if name.starts_with(['.', '/']) => format!("{{ path = {name:?} }}"),
        None => "\"*\"".to_string(),
    };
    Ok(Dependency { line, name, config })
}

/// The names that an item brings into scope, with the path where it is an import.
fn names(item: &Item) -> Vec<(String, Option<String>)> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Mod(item) => &item.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        Item::Macro(item) => match &item.ident {
            Some(ident) => ident,
            None => return Vec::new(),
        },
        Item::ExternCrate(item) => item.rename.as_ref().map_or(&item.ident, |(_, name)| name),
        Item::Use(item) => {
            let mut names = Vec::new();
            imports(&item.tree, "", &mut names);
            return names;
        }
        _ => return Vec::new(),
    };
    vec![(ident.to_string(), None)]
}

fn imports(tree: &UseTree, path: &str, names: &mut Vec<(String, Option<String>)>) {
    let last = |path: &str| path.trim_end_matches("::").rsplit("::").next().unwrap_or_default().to_string();
    match tree {
        UseTree::Path(inner) => imports(&inner.tree, &format!("{path}{}::", inner.ident), names),
        UseTree::Name(name) if name.ident == "self" => names.push((last(path), Some(path.to_string()))),
        UseTree::Name(name) => names.push((name.ident.to_string(), Some(format!("{path}{}", name.ident)))),
        UseTree::Rename(name) if name.rename == "_" => {}
        UseTree::Rename(name) => names.push((name.rename.to_string(), Some(format!("{path}{}", name.ident)))),
        // What a star brings may be brought twice, and gives way to everything else.
        UseTree::Glob(_) => {}
        UseTree::Group(group) => group.items.iter().for_each(|tree| imports(tree, path, names)),
    }
}

/// The variables that a pattern binds.
fn variables(pattern: &syn::Pat, found: &mut BTreeSet<String>) {
    use syn::Pat;
    match pattern {
        Pat::Ident(binding) => {
            found.insert(binding.ident.to_string());
            binding.subpat.iter().for_each(|(_, inner)| variables(inner, found));
        }
        Pat::Type(typed) => variables(&typed.pat, found),
        Pat::Reference(reference) => variables(&reference.pat, found),
        Pat::Paren(inner) => variables(&inner.pat, found),
        Pat::Tuple(tuple) => tuple.elems.iter().for_each(|inner| variables(inner, found)),
        Pat::TupleStruct(tuple) => tuple.elems.iter().for_each(|inner| variables(inner, found)),
        Pat::Slice(slice) => slice.elems.iter().for_each(|inner| variables(inner, found)),
        Pat::Or(cases) => cases.cases.iter().for_each(|inner| variables(inner, found)),
        Pat::Struct(fields) => fields.fields.iter().for_each(|field| variables(&field.pat, found)),
        _ => {}
    }
}

/// The identifiers of a text.
#[derive(Default)]
struct Words {
    mentions: BTreeSet<String>,
    uses: BTreeSet<String>,
}

impl Words {
    fn read(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is = |at: Option<usize>, wanted: char| matches!(at.and_then(|at| tokens.get(at)), Some(TokenTree::Punct(mark)) if mark.as_char() == wanted);
        for (at, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Group(group) => self.read(group.stream()),
                // A field or a method of that name is another thing.
                TokenTree::Ident(word) if !is(at.checked_sub(1), '.') || is(at.checked_sub(2), '.') => {
                    self.mentions.insert(word.to_string());
                    let path = is(Some(at + 1), ':') && is(Some(at + 2), ':');
                    // `if ready {` and `count < 3` are variables.
                    let of_type = word.to_string().starts_with(char::is_uppercase);
                    let used = match tokens.get(at + 1) {
                        Some(TokenTree::Group(group)) => of_type || group.delimiter() == Delimiter::Parenthesis,
                        Some(TokenTree::Punct(mark)) if mark.as_char() == '<' => of_type,
                        Some(TokenTree::Punct(mark)) if mark.as_char() == '!' => {
                            matches!(tokens.get(at + 2), Some(TokenTree::Group(_)))
                        }
                        _ => false,
                    };
                    let declared = matches!(at.checked_sub(1).map(|at| &tokens[at]),
                        Some(TokenTree::Ident(before)) if before == "fn");
                    if (path || used) && !declared {
                        self.uses.insert(word.to_string());
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(source: &str) -> Option<String> {
        let cell = Cell::parse(source).unwrap();
        assert_eq!(cell.code.len(), source.len(), "nothing moves");
        cell.shown.map(|range| cell.code[range].to_string())
    }

    #[test]
    fn the_expression_at_the_end_is_shown() {
        for (source, expected) in [
            ("let a = 1;\na + 1", Some("a + 1")),
            ("a + 1;", None),
            ("let a = 1;", None),
            ("let é = \"3×32\";\né   // of three\n", Some("é")),
            ("data.train", Some("data.train")),
            ("f(x)?\n    .draw()?", Some("f(x)?\n    .draw()?")),
            ("for i in 0..3 { f(i); }", Some("for i in 0..3 { f(i); }")),
            ("println!(\"a\")", Some("println!(\"a\")")),
            ("println!(\"a\");", None),
            ("vec![1, 2]", Some("vec![1, 2]")),
            ("fn f() -> u8 { 1 }", None),
            ("// only a remark", None),
            ("", None),
            ("if a { 1 } else { 2 }", Some("if a { 1 } else { 2 }")),
            ("Size { height: 1 }", Some("Size { height: 1 }")),
        ] {
            assert_eq!(shown(source).as_deref(), expected, "{source}");
        }
    }

    #[test]
    fn commands_stand_before_the_code() {
        let cell =
            Cell::parse("// first\n:dep serde\n :dep image = { path = \"a = b\" }\n\n:timing\nuse image::Rgb;\n")
                .unwrap();
        let found: Vec<(usize, &str, &str)> =
            cell.dependencies.iter().map(|d| (d.line, d.name.as_str(), d.config.as_str())).collect();
        assert_eq!(found, [(2, "serde", "\"*\""), (3, "image", "{ path = \"a = b\" }")]);
        assert_eq!(cell.code.trim(), "use image::Rgb;");
        assert_eq!(cell.code.lines().count(), 6, "lines keep their numbers");
        let local = Cell::parse(":dep ../crates/own").unwrap();
        assert_eq!(local.dependencies[0].config, "{ path = \"../crates/own\" }");
    }

    #[test]
    fn what_a_program_cannot_do_is_an_error_with_its_line() {
        let error = |source: &str| Cell::parse(source).unwrap_err();
        assert_eq!(error("\n:clear"), CellError::Command { line: 2, command: ":clear".to_string() });
        assert_eq!(error("%matplotlib").to_string().split(':').next(), Some("is no Rust that can be read, line 1"));
        assert_eq!(error("!ls -l"), CellError::Shell { line: 1, command: "ls -l".to_string() });
        assert!(matches!(error(":dep a b c"), CellError::Dependency { line: 1, .. }));
        assert!(matches!(error("let a = 1;\nlet b = ;"), CellError::Syntax { line: 2, .. }));
        // Behind Rust a colon is no command.
        assert!(matches!(error("let a = 1;\n:dep serde"), CellError::Syntax { line: 2, .. }));
    }

    #[test]
    fn items_variables_and_mentions_are_told_apart() {
        let cell = Cell::parse(
            "use std::{fmt::{self, Write as _}, time::Instant as Clock, *};\nstruct A;\nimpl A { fn make() -> B { b::c(1) } }\n\
             fn f(net: &Net) { if ready { net.train(); } start(net) }\nlet (a, mut b): (u8, u8) = f(x.y);\nlet P { c, .. } = p;",
        )
        .unwrap();
        let names: Vec<String> = cell.items.iter().flat_map(|item| &item.names).map(|(name, _)| name.clone()).collect();
        assert_eq!(names, ["fmt", "Clock", "A", "f"]);
        assert_eq!(cell.items[0].names[1].1.as_deref(), Some("std::time::Instant"));
        assert!(cell.items[1].mentions.contains("B"), "an impl belongs to the item before it");
        assert!(cell.items[1].uses.contains("b") && !cell.items[1].uses.contains("make"));
        assert_eq!(cell.items[2].uses.iter().collect::<Vec<_>>(), ["start"]);
        assert!(cell.items[2].mentions.contains("ready") && !cell.items[2].mentions.contains("train"));
        assert_eq!(cell.variables.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(cell.mentions.contains("x") && !cell.mentions.contains("y"));
    }

    #[test]
    fn attributes_of_the_program_are_taken_out() {
        let cell = Cell::parse("#![feature(test)]\n#[derive(Clone)]\nstruct A;").unwrap();
        assert_eq!(cell.attributes, ["#![feature(test)]"]);
        assert_eq!(cell.code.trim(), "#[derive(Clone)]\nstruct A;");
    }
}
