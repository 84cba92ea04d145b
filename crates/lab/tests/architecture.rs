//! The crates' modules import downwards only, in the order that ARCHITECTURE.md gives them, and no files import each
//! other in a circle.
//!
//! Read from the source: `use` items and paths that begin at `crate`, `super`, `self` or a module in scope, each followed
//! through re-exports to the file that defines the name. A re-export is a table of contents, so it is no import, and
//! what only tests import doesn't count.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use syn::{Item, UseTree};

/// A module's path within its crate: `["conv2d", "cpu"]`, empty for the crate's root.
type Module = Vec<String>;

/// The part of ARCHITECTURE.md that lists a crate's levels begins so; one level a line follows, the top one first.
const LEVELS: &str = "```text levels of ";

/// Re-exports may lead through other re-exports; more than this would be a circle.
const MOST_HOPS: usize = 8;

/// The names that one file brings into scope.
#[derive(Default)]
struct Scope {
    /// By the name in scope: the path that it stands for, from the crate's root.
    names: BTreeMap<String, Vec<String>>,
    /// The same for names that other modules may take from here.
    exported: BTreeMap<String, Vec<String>>,
    /// Paths that are used, from the crate's root.
    used: BTreeSet<Vec<String>>,
}

struct Crate {
    modules: BTreeMap<Module, Scope>,
}

/// Everything that a `use` tree names: the name in scope with the path.
fn flatten(tree: &UseTree, path: &mut Vec<String>, found: &mut Vec<(String, Vec<String>)>) {
    match tree {
        UseTree::Path(inner) => {
            path.push(inner.ident.to_string());
            flatten(&inner.tree, path, found);
            path.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, path, found)),
        UseTree::Name(name) if name.ident == "self" => {
            found.push((path.last().cloned().unwrap_or_default(), path.clone()));
        }
        UseTree::Name(name) => {
            found.push((name.ident.to_string(), [path.as_slice(), &[name.ident.to_string()]].concat()))
        }
        UseTree::Rename(name) => {
            found.push((name.rename.to_string(), [path.as_slice(), &[name.ident.to_string()]].concat()));
        }
        UseTree::Glob(_) => found.push(("*".to_string(), [path.as_slice(), &["*".to_string()]].concat())),
    }
}

/// Every path in a token stream, macros and attributes included: identifiers joined by `::`.
fn paths(tokens: TokenStream, found: &mut Vec<Vec<String>>) {
    let mut path: Vec<String> = Vec::new();
    let mut colons = 0;
    for token in tokens {
        match &token {
            TokenTree::Ident(ident) if colons == 2 && !path.is_empty() => path.push(ident.to_string()),
            TokenTree::Punct(punct) if punct.as_char() == ':' => {
                colons += 1;
                continue;
            }
            other => {
                found.push(std::mem::take(&mut path));
                if let TokenTree::Ident(ident) = other {
                    path.push(ident.to_string());
                }
            }
        }
        colons = 0;
        if let TokenTree::Group(group) = token {
            paths(group.stream(), found);
        }
    }
    found.push(path);
}

/// Whether only tests see the item. Modules of tests aren't read in any case.
fn is_test(item: &Item) -> bool {
    let attributes = match item {
        Item::Use(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            ["test", "doctest"].contains(&list.tokens.to_string().as_str())
        }
        _ => false,
    })
}

impl Crate {
    fn read(source: &Path) -> Self {
        let mut modules = BTreeMap::new();
        let mut folders = vec![(source.to_path_buf(), Module::new())];
        while let Some((folder, module)) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_stem().unwrap().to_str().unwrap().to_string();
                let inner = [module.as_slice(), std::slice::from_ref(&name)].concat();
                if path.is_dir() {
                    folders.push((path, inner));
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let module = if ["lib", "main", "mod"].contains(&name.as_str()) { module.clone() } else { inner };
                    let file = syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap();
                    modules.insert(module.clone(), Scope::read(&module, file.items));
                }
            }
        }
        Self { modules }
    }

    /// The module that defines what `path` names; `None` if that is a module. Follows re-exports, at most `hops` of them.
    fn definition(&self, path: &[String], hops: usize) -> Option<Module> {
        let mut module = Module::new();
        for (i, name) in path.iter().enumerate() {
            module.push(name.clone());
            if self.modules.contains_key(&module) {
                continue;
            }
            module.pop();
            let target = self.modules[&module].exported.get(name);
            return match target {
                Some(target) if hops > 0 => self.definition(&[target.as_slice(), &path[i + 1..]].concat(), hops - 1),
                _ => Some(module),
            };
        }
        // Naming a module uses nothing that is in it.
        None
    }

    /// Which files import from which.
    fn arrows(&self) -> BTreeSet<(Module, Module)> {
        let mut arrows = BTreeSet::new();
        for (module, scope) in &self.modules {
            let targets = scope.used.iter().filter_map(|path| self.definition(path, MOST_HOPS));
            arrows.extend(targets.filter(|target| target != module).map(|target| (module.clone(), target)));
        }
        arrows
    }
}

impl Scope {
    fn read(module: &Module, items: Vec<Item>) -> Self {
        let mut scope = Self::default();
        for item in &items {
            if let Item::Mod(item) = item {
                let name = item.ident.to_string();
                scope.names.insert(name.clone(), [module.as_slice(), &[name]].concat());
            }
        }
        let items: Vec<Item> = items.into_iter().filter(|item| !is_test(item)).collect();
        let mut written = Vec::new();
        for item in &items {
            let Item::Use(item) = item else { continue };
            let mut found = Vec::new();
            flatten(&item.tree, &mut Vec::new(), &mut found);
            for (name, path) in found {
                let Some(path) = scope.rooted(module, &path) else { continue };
                if matches!(item.vis, syn::Visibility::Inherited) {
                    written.push(path.clone());
                } else {
                    scope.exported.insert(name.clone(), path.clone());
                }
                scope.names.insert(name, path);
            }
        }
        for item in items {
            if !matches!(item, Item::Use(_) | Item::Mod(_)) {
                let mut found = Vec::new();
                paths(item.to_token_stream(), &mut found);
                written.extend(found.iter().filter_map(|path| scope.rooted(module, path)));
            }
        }
        scope.used.extend(written);
        scope
    }

    /// A path as written in `module`, from the crate's root; `None` where it leads into another crate or is a local name.
    fn rooted(&self, module: &Module, path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let start = match first.as_str() {
            "crate" => Module::new(),
            "self" => module.clone(),
            "super" => {
                let up = rest.iter().take_while(|name| *name == "super").count();
                let start = module.get(..module.len().checked_sub(up + 1)?)?.to_vec();
                return Some([start.as_slice(), &rest[up..]].concat());
            }
            name => self.names.get(name)?.clone(),
        };
        Some([start.as_slice(), rest].concat())
    }
}

fn shown(module: &Module) -> String {
    if module.is_empty() { "the crate's root".to_string() } else { module.join("::") }
}

/// Sets of files that reach each other.
fn circles(arrows: &BTreeSet<(Module, Module)>) -> Vec<Vec<Module>> {
    let mut reached: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
    for start in arrows.iter().map(|(from, _)| from) {
        let mut ahead = vec![start];
        while let Some(module) = ahead.pop() {
            for (_, to) in arrows.iter().filter(|(from, _)| from == module) {
                if reached.entry(start).or_default().insert(to) {
                    ahead.push(to);
                }
            }
        }
    }
    let mut circles: BTreeSet<Vec<Module>> = BTreeSet::new();
    for (module, far) in reached.iter().filter(|(module, far)| far.contains(**module)) {
        let back = |other: &&&Module| reached.get(**other).is_some_and(|far| far.contains(*module));
        circles.insert(far.iter().filter(back).map(|other| (*other).clone()).collect());
    }
    circles.into_iter().collect()
}

/// The level of each top-level module, the top one being 0.
fn levels(plan: &str, name: &str) -> BTreeMap<String, usize> {
    let block = plan.split_once(&format!("{LEVELS}{name}\n")).and_then(|(_, rest)| rest.split_once("```"));
    let (block, _) = block.unwrap_or_else(|| panic!("ARCHITECTURE.md has no levels of {name}"));
    let lines = block.lines().enumerate();
    lines.flat_map(|(level, line)| line.split_whitespace().map(move |module| (module.to_string(), level))).collect()
}

fn check(name: &str) -> Vec<String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let plan = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let levels = levels(&plan, name);
    let source = Crate::read(&root.join("crates").join(name).join("src"));
    let mut faults = Vec::new();
    let modules: BTreeSet<&String> = source.modules.keys().filter_map(|module| module.first()).collect();
    for module in modules.iter().filter(|module| !levels.contains_key(**module)) {
        faults.push(format!("{name}: {module} is in no level"));
    }
    for module in levels.keys().filter(|module| !modules.contains(module)) {
        faults.push(format!("{name}: there is no module {module}"));
    }
    // The crate's root only says what there is.
    let arrows: BTreeSet<(Module, Module)> =
        source.arrows().into_iter().filter(|(from, to)| !from.is_empty() && !to.is_empty()).collect();
    for (from, to) in &arrows {
        if levels.get(&from[0]) > levels.get(&to[0]) {
            faults.push(format!("{name}: {} imports {}, which is above it", shown(from), shown(to)));
        }
    }
    // Also between modules with all that is in them.
    let between_modules = arrows.iter().map(|(from, to)| (vec![from[0].clone()], vec![to[0].clone()]));
    let between_modules = between_modules.filter(|(from, to)| from != to).collect();
    for circle in circles(&arrows).into_iter().chain(circles(&between_modules)) {
        let modules: Vec<String> = circle.iter().map(shown).collect();
        faults.push(format!("{name}: {} import each other", modules.join(", ")));
    }
    faults
}

#[test]
fn arrows_run_down() {
    let crates = ["candle-cnn", "cifar-lab", "lab", "notebook-charts", "pth"];
    let faults: Vec<String> = crates.into_iter().flat_map(check).collect();
    assert!(faults.is_empty(), "{}\n{} faults", faults.join("\n"), faults.len());
}

/// An arrow that runs up and a circle are found, also through a re-export, a macro and a path in the code.
#[test]
fn arrows_are_read_as_the_compiler_would() {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("lib.rs", "mod top; mod ground; pub use top::Roof;");
    write("top/mod.rs", "mod tile; pub use tile::Tile; pub struct Roof; use crate::ground; fn f() { ground::dig() }");
    write(
        "top/tile.rs",
        "pub struct Tile; fn f() { super::Roof; } #[cfg(test)] mod tests { use crate::ground::Worm; }",
    );
    write("ground.rs", "pub fn dig() { println!(\"{}\", crate::top::Tile) } pub struct Worm; fn g(ground: u8) {}");
    let arrows = Crate::read(folder.path()).arrows();
    let shown: Vec<String> = arrows.iter().map(|(from, to)| format!("{} -> {}", shown(from), shown(to))).collect();
    assert_eq!(shown, ["ground -> top::tile", "top -> ground", "top::tile -> top"]);
    let circle: Vec<String> = ["ground", "top", "top::tile"].map(String::from).into();
    let circles: Vec<Vec<String>> =
        circles(&arrows).iter().map(|circle| circle.iter().map(self::shown).collect()).collect();
    assert_eq!(circles, [circle]);
}
