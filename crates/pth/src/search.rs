//! Finds the state dict in a file's content.

use std::collections::{HashSet, VecDeque};

use crate::error::{Error, Result, excerpt};
use crate::pickle::Node;
use crate::rebuild;

/// The keys under which training scripts save the state dict, in the order they are tried. Under any other key it is
/// found too, provided it is the only one.
const USUAL_KEYS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// How many keys an error lists; more would not help.
const LISTED: usize = 10;

/// The dict under these nested keys.
pub(crate) fn follow<'p, 'a>(root: Node<'p, 'a>, keys: &[&str]) -> Result<Node<'p, 'a>> {
    let mut found = root;
    for (depth, key) in keys.iter().enumerate() {
        found = child(found, key).ok_or_else(|| Error::NoSuchKey {
            keys: subscripts(&keys[..=depth]),
            there: summary(found).unwrap_or_default(),
        })?;
    }
    if found.entries().is_none() {
        return Err(no_dict(subscripts(keys), found));
    }
    Ok(found)
}

/// The state dict in a file's content: the content itself, the value of a usual key, or the only dict of tensors under
/// any other key.
pub(crate) fn search<'p, 'a>(root: Node<'p, 'a>) -> Result<Node<'p, 'a>> {
    if is_state_dict(root) || is_empty_dict(root) {
        return Ok(root);
    }
    let usual = || USUAL_KEYS.iter().filter_map(|key| root.get(key));
    if let Some(found) = usual().find(|dict| is_state_dict(*dict) || is_empty_dict(*dict)) {
        return Ok(found);
    }
    let mut found = Vec::new();
    let mut queue = VecDeque::from([(root, Vec::new())]);
    let mut seen = HashSet::new();
    while let Some((value, keys)) = queue.pop_front() {
        for (key, inner) in children(value, keys.is_empty()) {
            // A value may appear in several places, or contain itself.
            if inner.identity().is_some_and(|identity| seen.insert(identity)) {
                let keys: Vec<String> = keys.iter().cloned().chain([key]).collect();
                if is_state_dict(inner) {
                    found.push((inner, keys));
                } else {
                    queue.push_back((inner, keys));
                }
            }
        }
    }
    match found.as_slice() {
        [(only, _)] => Ok(*only),
        [] => Err(none(root, usual().find(|value| has_tensors(*value)))),
        several => {
            let places: Vec<String> = several.iter().take(LISTED).map(|(_, keys)| subscripts(keys)).collect();
            let more = if several.len() > LISTED { ", …" } else { "" };
            Err(Error::SeveralStateDicts { keys: places.join(", ") + more })
        }
    }
}

/// Whether this is a dict of named tensors only.
fn is_state_dict(value: Node) -> bool {
    let Some(mut entries) = value.entries() else { return false };
    let mut any = false;
    entries.all(|(key, value)| {
        any = true;
        key.as_text().is_some() && rebuild::is_tensor(value)
    }) && any
}

fn is_empty_dict(value: Node) -> bool {
    value.entries().is_some_and(|mut entries| entries.next().is_none())
}

fn has_tensors(value: Node) -> bool {
    value.entries().is_some_and(|mut entries| entries.any(|(_, value)| rebuild::is_tensor(value)))
}

/// The values of string keys; of the file's root also the items of a list or tuple. An optimizer's state has integer
/// keys: its tensors are not weights.
fn children<'p, 'a>(value: Node<'p, 'a>, is_root: bool) -> Vec<(String, Node<'p, 'a>)> {
    let named = value.entries().into_iter().flatten();
    let named = named.filter_map(|(key, value)| Some((excerpt(key.as_text()?.as_bytes()), value)));
    let items = value.items().filter(|_| is_root).into_iter().flatten().enumerate();
    named.chain(items.map(|(index, value)| (index.to_string(), value))).collect()
}

/// Python's `value[key]`, for a string or an integer key.
fn child<'p, 'a>(value: Node<'p, 'a>, key: &str) -> Option<Node<'p, 'a>> {
    value.get(key).or_else(|| {
        let number: usize = key.parse().ok()?;
        let mut numbered = value.entries().into_iter().flatten().filter(|(key, _)| key.as_usize() == Some(number));
        numbered.next().map(|(_, value)| value).or_else(|| value.items()?.nth(number))
    })
}

/// Keys as Python subscripts: `["ema"]["weights"]`.
fn subscripts(keys: &[impl AsRef<str>]) -> String {
    if keys.is_empty() {
        return "the file's content".into();
    }
    keys.iter().map(|key| format!("[\"{}\"]", excerpt(key.as_ref().as_bytes()))).collect()
}

/// Why no state dict was found; `nearest` is a dict that holds tensors and other values.
fn none(root: Node, nearest: Option<Node>) -> Error {
    let nearest = nearest.or_else(|| Some(root).filter(|root| has_tensors(*root)));
    let other = nearest
        .and_then(|dict| dict.entries()?.find(|(key, value)| key.as_text().is_none() || !rebuild::is_tensor(*value)));
    match other {
        Some((key, value)) => not_a_tensor(key, value),
        None if root.entries().is_none() => no_dict("the file's content".into(), root),
        None => Error::NoStateDict {
            at: "the file's content".into(),
            found: "a dict".into(),
            hint: summary(root).map_or(String::new(), |keys| format!("; it holds {keys}")) + &advice(root),
        },
    }
}

fn no_dict(at: String, found: Node) -> Error {
    Error::NoStateDict { at, found: found.describe(), hint: advice(found) }
}

/// The error for an entry that is not a named tensor.
pub(crate) fn not_a_tensor(key: Node, value: Node) -> Error {
    if key.as_text().is_some() || !rebuild::is_tensor(value) {
        return Error::NotATensor { name: name(key), found: value.describe() };
    }
    let (tensor, what) = ("the state dict".into(), "a key");
    Error::Description { tensor, what, found: key.describe(), expected: "a string" }
}

/// A key for a message.
fn name(key: Node) -> String {
    let number = || key.as_i64().map_or_else(|| key.describe(), |number| number.to_string());
    key.as_text().map_or_else(number, |key| excerpt(key.as_bytes()))
}

/// A dict's keys and what they hold: `epoch (an integer), net (an object of net.Net)`.
fn summary(dict: Node) -> Option<String> {
    let mut entries = dict.entries()?.peekable();
    entries.peek()?;
    let kind = |value: Node| if is_state_dict(value) { "a state dict".into() } else { value.describe() };
    let listed: Vec<String> =
        entries.by_ref().take(LISTED).map(|(key, value)| format!("{} ({})", name(key), kind(value))).collect();
    Some(listed.join(", ") + if entries.peek().is_some() { ", …" } else { "" })
}

/// What to do about it, if known.
fn advice(found: Node) -> String {
    let is_module = |value: Node| value.call().is_some_and(|call| call.state.get("_modules").is_some());
    if rebuild::is_tensor(found) {
        ": give it a name, as in torch.save({\"weight\": tensor}, path)".into()
    } else if is_module(found) {
        ": this is a whole module; in Python, save model.state_dict() instead of the model".into()
    } else if let Some((key, _)) = found.entries().into_iter().flatten().find(|(_, value)| is_module(*value)) {
        let key = name(key);
        format!(": {key} is a whole module; in Python, save {key}.state_dict() instead of {key}")
    } else if found.get("param_groups").is_some() {
        ": this is an optimizer's state; in Python, save model.state_dict()".into()
    } else {
        String::new()
    }
}
