//! Parsing a code cell as the kernel does: its commands, its items, and the expression that it shows.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::LazyLock;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use regex::Regex;
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{Attribute, Block, Item, Stmt, UseTree};

/// Commands of the kernel that don't change what a program computes or prints, and are left out.
const WITHOUT_EFFECT: [&str; 27] = [
    ":allow_static_linking",
    ":build_env",
    ":cache",
    ":clear_cache",
    ":codegen_backend",
    ":doc",
    // Only affects a process that is started later.
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

/// Why a cell can't become part of a program. A message continues "cell 3".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CellError {
    /// Not Rust, or incomplete.
    #[error(", line {line}: not valid Rust ({message}); does the cell run in the notebook?")]
    Syntax { line: usize, message: String },
    /// A command of the kernel that programs have no counterpart for.
    #[error(", line {line}: programs have no {command}; remove the line")]
    Command { line: usize, command: String },
    /// A line for the shell.
    #[error(", line {line}: programs can't run shell commands ({command}); remove the line")]
    Shell { line: usize, command: String },
    /// A dependency that is malformed or can't be found.
    #[error(", line {line}: bad dependency {dependency:?}: {reason}")]
    Dependency { line: usize, dependency: String, reason: String },
    /// A second dependency with the same name, but another version or source.
    #[error(", line {line}: {name} was already declared as {first}; remove one of the two")]
    DependencyTwice { line: usize, name: String, first: String },
    /// An item that replaces one that another item uses. In the kernel that other item would use the new one.
    #[error(
        " redeclares {name} from cell {first}, which an item in cell {user} uses: in a program, that item would keep using the \
         old one; rename one of them"
    )]
    Redeclared { name: String, first: usize, user: usize },
    /// An item that shadows an import that another item uses. In the kernel that other item would use the new one.
    #[error(
        " declares {name}, and an item in cell {user} uses another {name}: in a program, that item would keep using the other \
         one; rename one of them"
    )]
    Shadowed { name: String, user: usize },
}

/// A `:dep` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The line in the cell, counted from 1.
    pub line: usize,
    /// The crate's name or path.
    pub name: String,
    /// As in Cargo.toml: `"1.0"`, `{ path = "…" }`; any version by default.
    pub config: String,
}

/// An item of a cell: a function, a type, an `impl`, an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// The names that it declares, each with its path if it is an import.
    pub names: Vec<(String, Option<String>)>,
    /// Every identifier in it.
    pub mentions: BTreeSet<String>,
    /// Those that are called, constructed, or the start of a path: `name(`, `Name {`, `name!(`, `name::`, `Name<`.
    pub uses: BTreeSet<String>,
}

impl Declared {
    /// Whether it declares this name.
    pub fn declares(&self, name: &str) -> bool {
        self.names.iter().any(|(own, _)| own == name)
    }
}

/// A code cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    pub dependencies: Vec<Dependency>,
    /// `#![…]` for the program.
    pub attributes: Vec<String>,
    /// Its Rust code. Commands and attributes are replaced by spaces.
    pub code: String,
    /// Where in `code` the expression is whose value the notebook shows.
    pub shown: Option<Range<usize>>,
    /// Its items. An `impl` counts as part of the item before it, as in the kernel.
    pub items: Vec<Declared>,
    /// The variables that it declares at its top level.
    pub variables: BTreeSet<String>,
    /// Every identifier outside its items.
    pub mentions: BTreeSet<String>,
}

impl Cell {
    /// Parses a cell's source.
    pub fn parse(source: &str) -> Result<Self, CellError> {
        let mut cell = Self::default();
        let begin = cell.read_commands(source)?;
        // Keeps lines and columns.
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

    /// Reads the commands at the start of the cell; returns where its Rust begins.
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
        // syn has parsed it, so these are valid tokens.
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

/// `text` with spaces for everything but line ends.
fn blank(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { "\n".to_string() } else { " ".repeat(c.len_utf8()) }).collect()
}

fn read_dependency(line: usize, text: &str) -> Result<Dependency, CellError> {
    static FORM: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^([^= ]+) *(?:= *(.+))?$").expect("valid"));
    let captures = FORM.captures(text.trim()).ok_or_else(|| CellError::Dependency {
        line,
        dependency: text.to_string(),
        reason: "expected `:dep name` or `:dep name = …`".to_string(),
    })?;
    let name = captures[1].to_string();
    let config = match captures.get(2) {
        Some(config) => config.as_str().to_string(),
        None if name.starts_with(['.', '/']) => format!("{{ path = {name:?} }}"),
        None => "\"*\"".to_string(),
    };
    Ok(Dependency { line, name, config })
}

/// The names that an item declares, each with its path if it is an import.
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
        // A glob import gives way to every other declaration, and may be repeated.
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

/// A name in a format string.
static CAPTURED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\{([A-Za-z_]\w*)").expect("valid"));

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
                // Fields and methods have their own namespace.
                TokenTree::Ident(word) if !is(at.checked_sub(1), '.') || is(at.checked_sub(2), '.') => {
                    self.mentions.insert(word.to_string());
                    let path = is(Some(at + 1), ':') && is(Some(at + 2), ':');
                    let name = word.to_string();
                    // In `if ready {` and `count < 3` they are variables.
                    let of_type = name.starts_with(char::is_uppercase);
                    // One letter is more often a type's parameter.
                    let constant = of_type && name.len() > 1 && !name.contains(char::is_lowercase);
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
                    if (path || used || constant) && !declared {
                        self.uses.insert(name);
                    }
                }
                // `println!("{N}")`
                TokenTree::Literal(text) => {
                    let text = text.to_string();
                    self.mentions.extend(CAPTURED.captures_iter(&text).map(|captured| captured[1].to_string()));
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
        assert_eq!(error("%matplotlib").to_string().split(':').next(), Some(", line 1"));
        assert_eq!(error("!ls -l"), CellError::Shell { line: 1, command: "ls -l".to_string() });
        assert!(matches!(error(":dep a b c"), CellError::Dependency { line: 1, .. }));
        assert!(matches!(error("let a = 1;\nlet b = ;"), CellError::Syntax { line: 2, .. }));
        // After Rust code, a colon doesn't start a command.
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
