//! The Cargo.toml of an exported notebook.

use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

use super::cells::{CellError, Dependency};
use crate::kernel::settings::toml_string;
use crate::repository::Repository;

/// The crate that every program depends on, at least to start and to show values.
const OWN: &str = "cifar-lab";

/// The name of a notebook's package and program. It must not start with a digit.
pub fn package_name(notebook: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    format!("notebook_{}", notebook.chars().map(allowed).collect::<String>())
}

/// A line of `[dependencies]`: the crate's name and its version or source, with an absolute path.
pub fn resolve(dependency: &Dependency, notebooks: &Path) -> Result<(String, String), CellError> {
    static PATH: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"path *= *"([^"]+)""#).expect("valid"));
    let Dependency { line, name, config } = dependency;
    let wrong = |reason: String| CellError::Dependency { line: *line, dependency: name.clone(), reason };
    let Some(captures) = PATH.captures(config) else {
        return Ok((name.clone(), config.clone()));
    };
    let folder = notebooks.join(&captures[1]);
    let folder = folder.canonicalize().map_err(|error| wrong(format!("{}: {error}", folder.display())))?;
    let config = config.replace(&captures[0], &format!("path = {}", toml_string(&folder)));
    if !name.starts_with(['.', '/']) {
        return Ok((name.clone(), config));
    }
    let manifest = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).map_err(|error| wrong(format!("{}: {error}", manifest.display())))?;
    let named = text.lines().find_map(|line| line.strip_prefix("name")?.trim_start().strip_prefix('='));
    let name = named.map(|rest| rest.trim().trim_matches('"').to_string());
    Ok((name.ok_or_else(|| wrong(format!("{} has no package name", manifest.display())))?, config))
}

/// The first line, by which an exported crate is known.
pub const HEAD: &str = "# Written by `cargo lab export`.\n";

/// The text of Cargo.toml.
pub fn write(name: &str, dependencies: &[(String, String)], repository: &Repository, feature: Option<&str>) -> String {
    let own = format!("{{ path = {} }}", toml_string(&repository.root().join("crates/cifar-lab")));
    let named = dependencies.iter().find(|(name, _)| name == OWN).map(|(_, config)| config);
    let own = named.cloned().unwrap_or(own);
    let own = feature.map_or(own.clone(), |feature| with_feature(&own, feature));
    let others = dependencies.iter().filter(|(name, _)| name != OWN);
    let others: String = others.map(|(name, config)| format!("{name} = {config}\n")).collect();
    format!(
        "{HEAD}[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\npublish = false\n\n\
         [dependencies]\n{OWN} = {own}\n{others}\n\
         # An overflow is an error, as in a notebook.\n\
         [profile.release.package.{name}]\ndebug-assertions = true\noverflow-checks = true\n\n\
         # Smaller, to be copied to other machines.\n[profile.release]\nstrip = true\n\n\
         # No member of the repository's workspace.\n[workspace]\n"
    )
}

/// Adds a feature to a dependency.
fn with_feature(config: &str, feature: &str) -> String {
    if let Some((before, after)) = config.split_once("features")
        && let Some((between, list)) = after.split_once('[')
        && between.trim() == "="
    {
        return format!("{before}features = [\"{feature}\", {list}");
    }
    match config.trim().strip_suffix('}') {
        Some(table) => format!("{}, features = [\"{feature}\"] }}", table.trim_end()),
        None => format!("{{ version = {config}, features = [\"{feature}\"] }}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dependency(name: &str, config: &str) -> Dependency {
        Dependency { line: 1, name: name.to_string(), config: config.to_string() }
    }

    #[test]
    fn names_are_what_cargo_takes() {
        assert_eq!(package_name("00_pipeline"), "notebook_00_pipeline");
        assert_eq!(package_name("my own.1"), "notebook_my_own_1");
    }

    #[test]
    fn paths_begin_at_the_notebook() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
        let notebooks = crates.join("../notebooks");
        let config = "{ path = \"../crates/pth\", optional = false }";
        let (name, config) = resolve(&dependency("pth", config), &notebooks).unwrap();
        assert_eq!(name, "pth");
        assert_eq!(config, format!("{{ path = {}, optional = false }}", toml_string(&crates.join("pth"))));
        let named = resolve(&dependency("../crates/pth", "{ path = \"../crates/pth\" }"), &notebooks).unwrap();
        assert_eq!(named.0, "pth");
        let error = resolve(&dependency("x", "{ path = \"no/such\" }"), &notebooks).unwrap_err().to_string();
        assert!(error.contains("no/such"), "{error}");
        assert_eq!(resolve(&dependency("a", "\"1\""), &notebooks).unwrap(), ("a".to_string(), "\"1\"".to_string()));
    }

    #[test]
    fn a_feature_is_added_to_any_form() {
        for (config, expected) in [
            ("\"0.1\"", "{ version = \"0.1\", features = [\"cudnn\"] }"),
            ("{ path = \"/a\" }", "{ path = \"/a\", features = [\"cudnn\"] }"),
            ("{ path = \"/a\", features = [\"b\"] }", "{ path = \"/a\", features = [\"cudnn\", \"b\"] }"),
        ] {
            assert_eq!(with_feature(config, "cudnn"), expected);
        }
    }

    #[test]
    fn the_crate_is_a_workspace_of_its_own() {
        let repository = Repository::around(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        let text = write("notebook_x", &[("serde".to_string(), "\"1\"".to_string())], &repository, None);
        assert!(
            text.contains("\n[workspace]\n") && text.contains("serde = \"1\"") && !text.contains("cudnn"),
            "{text}"
        );
        assert!(text.contains(&format!(
            "cifar-lab = {{ path = {} }}",
            toml_string(&repository.root().join("crates/cifar-lab"))
        )));
        assert!(write("notebook_x", &[], &repository, Some("cudnn")).contains("features = [\"cudnn\"]"));
    }
}
