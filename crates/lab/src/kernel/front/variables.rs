//! What became of a notebook's variables, to explain why rustc can't find one.

use std::collections::HashMap;

use regex::Regex;
use std::sync::LazyLock;

/// Where variables went that are no longer there.
#[derive(Default)]
pub struct Variables(HashMap<String, String>);

impl Variables {
    /// Notes what cell number `count` has done, which was compiled as `compiled` and ended `well`.
    pub fn note(&mut self, count: usize, compiled: &str, well: bool) {
        static STORED: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"put_variable::<[^;]*>\(stringify!\((\w+)\)").expect("valid"));
        static LOADED: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"take_variable::<[^;]*>\(stringify!\((\w+)\)").expect("valid"));
        let names = |pattern: &Regex| -> Vec<String> {
            pattern.captures_iter(compiled).map(|found| found[1].to_string()).collect()
        };
        let stored = names(&STORED);
        for name in names(&LOADED) {
            if !stored.contains(&name) {
                let fate = format!(
                    "`{name}` was given away in cell [{count}]: use `{name}.clone()` or `&{name}` there, or run the cell again that \
                     makes it"
                );
                self.0.insert(name, fate);
            }
        }
        if well {
            stored.iter().for_each(|name| drop(self.0.remove(name)));
        }
    }

    /// Notes that all variables of the process are lost. `compiled` is its last cell.
    pub fn lose(&mut self, compiled: &str) {
        static NAMED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"stringify!\((\w+)\)").expect("valid"));
        for found in NAMED.captures_iter(compiled) {
            let name = &found[1];
            self.0.insert(
                name.to_string(),
                format!("`{name}` was lost with the cells' process: run the cell again that makes it"),
            );
        }
    }

    /// What became of the variable that `message` says is missing: "cannot find value `x` in this scope".
    pub fn explain(&self, message: &str) -> Option<&str> {
        let name = message.split("cannot find value `").nth(1)?.split('`').next()?;
        self.0.get(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(loaded: &[&str], stored: &[&str]) -> String {
        let load =
            loaded.iter().map(|name| format!("let {name} = store.take_variable::<Vec<u8>>(stringify!({name}));\n"));
        let store = stored.iter().map(|name| format!("store.put_variable::<Map<\nu8>>(stringify!({name}), {name});\n"));
        load.chain(store).collect()
    }

    #[test]
    fn a_moved_or_lost_variable_is_explained() {
        let missing = |name: &str| format!("cannot find value `{name}` in this scope");
        let mut variables = Variables::default();
        variables.note(1, &compiled(&[], &["loader", "net"]), true);
        assert_eq!(variables.explain(&missing("loader")), None);
        variables.note(2, &compiled(&["loader", "net"], &["net", "run"]), true);
        assert!(
            variables.explain(&missing("loader")).unwrap().contains("given away in cell [2]: use `loader.clone()`")
        );
        variables.note(3, &compiled(&["net", "run"], &["net", "run", "loader"]), true);
        assert_eq!(variables.explain(&missing("loader")), None);
        variables.lose(&compiled(&["net"], &["net"]));
        assert!(variables.explain(&missing("net")).unwrap().contains("was lost"));
        assert_eq!(variables.explain("mismatched types"), None);
    }
}
