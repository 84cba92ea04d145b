//! Where in a file's content the state dict is.

use std::collections::{HashSet, VecDeque};

use crate::error::{Error, Result, excerpt};
use crate::pickle::Node;
use crate::rebuild;

/// Where training scripts put the state dict that counts, in the order in which they are tried. Under any other key it
/// is found too, as long as there is only one.
const USUAL_KEYS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// Keys that an error lists; more say no more.
const LISTED: usize = 10;

/// The value under `keys`, one inside the other.
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

/// The one state dict in a file's content: the content itself, what lies under a usual key, or the only dict of tensors
/// under any key.
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
            // One value may lie in several places, or in itself.
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

/// Whether this is a dict of named tensors and nothing else.
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

/// The values under named keys, and of what the file itself is also a list's or a tuple's items. An optimizer's state
/// has numbers for keys: the tensors there are no weights.
fn children<'p, 'a>(value: Node<'p, 'a>, is_root: bool) -> Vec<(String, Node<'p, 'a>)> {
    let named = value.entries().into_iter().flatten();
    let named = named.filter_map(|(key, value)| Some((excerpt(key.as_text()?.as_bytes()), value)));
    let items = value.items().filter(|_| is_root).into_iter().flatten().enumerate();
    named.chain(items.map(|(index, value)| (index.to_string(), value))).collect()
}

/// What Python has at `value[key]`, whether the key is a text or a number.
fn child<'p, 'a>(value: Node<'p, 'a>, key: &str) -> Option<Node<'p, 'a>> {
    value.get(key).or_else(|| {
        let number: usize = key.parse().ok()?;
        let mut numbered = value.entries().into_iter().flatten().filter(|(key, _)| key.as_usize() == Some(number));
        numbered.next().map(|(_, value)| value).or_else(|| value.items()?.nth(number))
    })
}

/// `["ema"]["weights"]`, as Python has it.
fn subscripts(keys: &[impl AsRef<str>]) -> String {
    if keys.is_empty() {
        return "the file's content".into();
    }
    keys.iter().map(|key| format!("[\"{}\"]", excerpt(key.as_ref().as_bytes()))).collect()
}

/// Why there is nothing: `nearest` is a dict with tensors and something else in it.
fn none(root: Node, nearest: Option<Node>) -> Error {
    let nearest = nearest.or_else(|| Some(root).filter(|root| has_tensors(*root)));
    let other = nearest
        .and_then(|dict| dict.entries()?.find(|(key, value)| key.as_text().is_none() || !rebuild::is_tensor(*value)));
    match other {
        Some((key, value)) => Error::NotATensor { name: name(key), found: value.describe() },
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

/// A key for a message.
pub(crate) fn name(key: Node) -> String {
    key.as_text().map_or_else(|| format!("a key that is {}", key.describe()), |key| excerpt(key.as_bytes()))
}

/// The keys of a dict with what lies there: `epoch (an integer), net (an object of net.Net)`.
fn summary(dict: Node) -> Option<String> {
    let mut entries = dict.entries()?.peekable();
    entries.peek()?;
    let kind = |value: Node| if is_state_dict(value) { "a state dict".into() } else { value.describe() };
    let listed: Vec<String> =
        entries.by_ref().take(LISTED).map(|(key, value)| format!("{} ({})", name(key), kind(value))).collect();
    Some(listed.join(", ") + if entries.peek().is_some() { ", …" } else { "" })
}

/// What to do about it, where that is known.
fn advice(found: Node) -> String {
    let is_module = |value: Node| value.call().is_some_and(|call| call.state.get("_modules").is_some());
    if rebuild::is_tensor(found) {
        ": name it, as in torch.save({\"weight\": tensor}, path)".into()
    } else if is_module(found) {
        ": that is a whole module; in Python, save model.state_dict() and not the model".into()
    } else if let Some((key, _)) = found.entries().into_iter().flatten().find(|(_, value)| is_module(*value)) {
        let key = name(key);
        format!(": {key} is a whole module; in Python, save {key}.state_dict() and not {key}")
    } else if found.get("param_groups").is_some() {
        ": that is an optimizer's state; in Python, save model.state_dict()".into()
    } else {
        String::new()
    }
}
