//! environment.yml, the one list of packages: conda takes it as it is, and this module reads it for pip.
//! environment-cuda.yml, with CUDA's compiler and libraries, is for conda only.

use std::fs;
use std::path::Path;

use saphyr::{LoadableYamlNode, Yaml};

use crate::error::{Error, Result};
use crate::machine::parse_version;

/// The packages of environment.yml that pip doesn't install, and where they come from without conda.
pub const NOT_FROM_PIP: [(&str, &str); 5] = [
    ("python", "must be there already"),
    ("rust", "must be there already: `cargo lab` was compiled with it"),
    ("rust-src", "optional: rustup component add rust-src"),
    ("evcxr", "compiled by cargo install"),
    ("c-compiler", "must be there already: the system's cc"),
];

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name on conda-forge and PyPI.
    pub name: String,
    /// What conda and pip write for the versions (`>=4.2,<5`), or nothing.
    pub versions: String,
}

impl Package {
    /// Whether pip installs it.
    pub fn is_from_pip(&self) -> bool {
        NOT_FROM_PIP.iter().all(|(name, _)| *name != self.name)
    }

    /// An argument for pip.
    pub fn requirement(&self) -> String {
        format!("{}{}", self.name, self.versions)
    }

    /// The version after `>=`, as (major, minor).
    pub fn least_version(&self) -> Option<(u32, u32)> {
        parse_version(self.versions.split(',').find_map(|bound| bound.strip_prefix(">="))?)
    }
}

/// What environment.yml says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    pub name: String,
    pub packages: Vec<Package>,
}

impl Environment {
    /// Reads environment.yml at `path`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
        Self::parse(&text).map_err(|reason| Error::BadEnvironment { path: path.to_path_buf(), reason })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let documents = Yaml::load_from_str(text).map_err(|error| error.to_string())?;
        let document = documents.first().ok_or("is empty")?;
        let name = document.as_mapping_get("name").and_then(Yaml::as_str).ok_or("has no name")?;
        let lines = document.as_mapping_get("dependencies").and_then(Yaml::as_sequence).ok_or("has no dependencies")?;
        let packages = lines.iter().map(parse_package).collect::<Result<_, String>>()?;
        Ok(Self { name: name.to_string(), packages })
    }

    /// The package called `name`, if listed.
    pub fn get(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// The minimum version of Python, as (major, minor).
    pub fn python(&self) -> (u32, u32) {
        // 3.10 is the minimum of the tested JupyterLab.
        self.get("python").and_then(Package::least_version).unwrap_or((3, 10))
    }

    /// Arguments for pip.
    pub fn requirements(&self) -> Vec<String> {
        self.packages.iter().filter(|package| package.is_from_pip()).map(Package::requirement).collect()
    }
}

fn parse_package(line: &Yaml) -> Result<Package, String> {
    let text = line.as_str().ok_or("a dependency isn't a string; expected `name` or `name >=1,<2`")?;
    let (name, versions) = text.split_once(' ').unwrap_or((text, ""));
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let bounds = |bound: &str| {
        let digits = bound.trim_start_matches(['<', '>', '=', '~', '!']);
        !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit() || ".*".contains(c))
    };
    if !is_name || !(versions.is_empty() || versions.split(',').all(bounds)) {
        return Err(format!("malformed dependency {text:?}; expected `name` or `name >=1,<2`"));
    }
    Ok(Package { name: name.to_string(), versions: versions.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::{CUDNN, LIBRARIES};
    use crate::kernel::settings::EVCXR_SERIES;
    use crate::repository::Repository;

    fn committed_for_cuda() -> Environment {
        let (repository, _) = committed();
        Environment::read(&repository.root().join("environment-cuda.yml")).unwrap()
    }

    fn committed() -> (Repository, Environment) {
        let repository = Repository::around(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        let environment = Environment::read(&repository.root().join("environment.yml")).unwrap();
        (repository, environment)
    }

    #[test]
    fn the_committed_files_have_condas_form() {
        let (repository, environment) = committed();
        let cuda = committed_for_cuda();
        for file in ["environment.yml", "environment-cuda.yml"] {
            let text = fs::read_to_string(repository.root().join(file)).unwrap();
            let documents = Yaml::load_from_str(&text).unwrap();
            let keys: Vec<&str> = documents[0].as_mapping().unwrap().keys().filter_map(Yaml::as_str).collect();
            assert_eq!(keys, ["name", "channels", "dependencies"], "{file}");
            let channels = documents[0].as_mapping_get("channels").and_then(Yaml::as_sequence).unwrap();
            assert_eq!(channels[0].as_str(), Some("conda-forge"), "{file}");
        }
        // The second goes into the environment of the first.
        assert_eq!((environment.name.as_str(), cuda.name.as_str()), ("cifar-lab", "cifar-lab"));
        let packages = || environment.packages.iter().chain(&cuda.packages);
        let mut names: Vec<&str> = packages().map(|package| package.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), packages().count(), "a package is listed twice");
    }

    #[test]
    fn the_file_for_cuda_has_what_is_looked_for() {
        let cuda = committed_for_cuda();
        let wanted = LIBRARIES.iter().chain([&CUDNN]).map(|(_, package)| *package);
        for package in wanted.chain(["cuda-nvcc", "cxx-compiler"]) {
            assert!(cuda.get(package).is_some(), "{package} is not in environment-cuda.yml");
        }
        assert_eq!(cuda.get("cuda-version").unwrap().versions, ">=12,<14");
    }

    #[test]
    fn the_committed_file_agrees_with_what_is_installed() {
        let (repository, environment) = committed();
        // What pip installs is the list without the table, so each package is in exactly one of them.
        for (name, _) in NOT_FROM_PIP {
            assert!(environment.get(name).is_some(), "{name} is not in environment.yml");
        }
        let pip = environment.requirements();
        assert_eq!(pip.len() + NOT_FROM_PIP.len(), environment.packages.len());
        // What `cargo lab` starts or imports.
        for needed in ["jupyterlab", "nbclient", "nbformat", "jupyter_client"] {
            assert!(pip.iter().any(|requirement| requirement.starts_with(needed)), "{needed} is not installed");
        }
        let rust = environment.get("rust").and_then(Package::least_version);
        assert_eq!(rust, Some(repository.rust_version().unwrap()), "Cargo.toml's rust-version");
        let evcxr = environment.get("evcxr").unwrap();
        assert_eq!(evcxr.versions, format!("{EVCXR_SERIES}.*"), "the evcxr that is compiled");
        assert_eq!(environment.python(), (3, 10));
    }

    #[test]
    fn malformed_files_are_errors() {
        for (text, wanted) in [
            ("", "empty"),
            ("dependencies: []", "no name"),
            ("name: x", "no dependencies"),
            ("name: x\ndependencies:\n  - pip:\n    - y\n", "isn't a string"),
            ("name: x\ndependencies:\n  - jupyterlab --index-url=evil\n", "malformed"),
            ("name: [", ""),
        ] {
            let error = Environment::parse(text).unwrap_err();
            assert!(error.contains(wanted), "{text:?}: {error}");
        }
    }
}
