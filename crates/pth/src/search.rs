//! Finds the state dict in a file's content.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::budget::Budget;
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
pub(crate) fn search<'p, 'a>(root: Node<'p, 'a>, budget: &mut Budget) -> Result<Node<'p, 'a>> {
    if is_state_dict(root) || is_empty_dict(root) {
        return Ok(root);
    }
    let usual = || USUAL_KEYS.iter().filter_map(|key| root.get(key));
    if let Some(found) = usual().find(|dict| is_state_dict(*dict) || is_empty_dict(*dict)) {
        return Ok(found);
    }
    // Averaged weights elsewhere in the file, say, must not quietly take the place of these.
    let holds_one =
        |dict: Node| dict.entries().is_some_and(|mut entries| entries.any(|(_, value)| is_state_dict(value)));
    if let Some(mixed) = usual().find(|dict| has_tensors(*dict) && !holds_one(*dict)) {
        return Err(none(root, Some(mixed)));
    }
    let mut places = Places::default();
    places.add(root, 0, Key::Index(0), budget)?;
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(&Place { value, .. }) = places.list.get(at) {
        // String keys only: an optimizer's state has integer keys, and its tensors are not weights.
        for (key, inner) in value.entries().into_iter().flatten() {
            if let Some(key) = key.as_text() {
                places.add(inner, at, Key::Name(key), budget)?;
            }
        }
        // The root may be a list or tuple.
        for (index, inner) in value.items().filter(|_| at == 0).into_iter().flatten().enumerate() {
            places.add(inner, at, Key::Index(index), budget)?;
        }
        at += 1;
        while places.list.get(at).is_some_and(|place| is_state_dict(place.value)) {
            found.push(at);
            at += 1;
        }
        if found.len() > LISTED {
            break;
        }
    }
    match found.as_slice() {
        [only] => Ok(places.list[*only].value),
        [] => Err(none(root, None)),
        several => {
            let shown: Vec<String> = several.iter().take(LISTED).map(|&at| places.subscripts(at)).collect();
            let more = if several.len() > LISTED { ", …" } else { "" };
            Err(Error::SeveralStateDicts { keys: shown.join(", ") + more })
        }
    }
}

#[derive(Clone, Copy)]
enum Key<'a> {
    Name(&'a str),
    Index(usize),
}

/// A value and how to get there.
struct Place<'p, 'a> {
    value: Node<'p, 'a>,
    /// The index of the place that holds it.
    parent: usize,
    key: Key<'a>,
}

/// The places visited or to be visited, breadth first.
#[derive(Default)]
struct Places<'p, 'a> {
    list: Vec<Place<'p, 'a>>,
    seen: HashSet<u32>,
}

impl<'p, 'a> Places<'p, 'a> {
    /// Adds a place to visit, unless the value has no parts or was seen elsewhere: it may even contain itself.
    fn add(&mut self, value: Node<'p, 'a>, parent: usize, key: Key<'a>, budget: &mut Budget) -> Result<()> {
        let Some(identity) = value.identity() else { return Ok(()) };
        if self.seen.insert(identity) {
            // With the table's free slots.
            budget.take(4 * size_of::<u32>())?;
            budget.push(&mut self.list, Place { value, parent, key })?;
        }
        Ok(())
    }

    /// The keys that lead to a place; of a deep one, the last few.
    fn subscripts(&self, mut at: usize) -> String {
        let mut keys = Vec::new();
        while at != 0 && keys.len() < LISTED {
            let Place { parent, key, .. } = self.list[at];
            keys.push(match key {
                Key::Name(name) => Cow::Borrowed(name),
                Key::Index(index) => Cow::Owned(index.to_string()),
            });
            at = parent;
        }
        keys.reverse();
        (if at == 0 { "" } else { "…" }).to_string() + &subscripts(&keys)
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
    let is_module = |value: Node| value.call().is_some_and(|call| call.state.get_early("_modules").is_some());
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
