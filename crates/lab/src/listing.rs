//! Listings of numbers, with `name index value` on each line, as programs and notebooks print them.

use std::collections::BTreeMap;

/// The numbers of a listing by the text before them. Lines of any other form are ignored.
pub fn parse(text: &str) -> BTreeMap<String, f64> {
    let number = |line: &str| {
        let (key, value) = line.trim().rsplit_once(' ')?;
        // Prose may end in a number too.
        let (_, index) = key.split_once(' ')?;
        index.parse::<usize>().ok()?;
        Some((key.to_string(), value.parse().ok()?))
    };
    text.lines().filter_map(number).collect()
}

/// The largest difference between two listings, or why they can't be compared.
pub fn compare(one: &BTreeMap<String, f64>, other: &BTreeMap<String, f64>) -> Result<f64, String> {
    if one.is_empty() {
        return Err("the listing is empty".to_string());
    }
    if let Some(key) =
        one.keys().find(|key| !other.contains_key(*key)).or(other.keys().find(|key| !one.contains_key(*key)))
    {
        return Err(format!("only one of the listings has {key}"));
    }
    let differences = one.iter().map(|(key, value)| (value - other[key]).abs());
    // `f64::max` would ignore a NaN, which must count as a difference.
    Ok(differences.fold(0.0, |largest, next| if next > largest || next.is_nan() { next } else { largest }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_compared_by_name_and_index() {
        let one = parse("fc.weight 0 0.5\nfc.weight 1 -2e-3\nsaved 3 files\n");
        assert_eq!(one.len(), 2);
        assert_eq!(compare(&one, &one), Ok(0.0));
        let other = parse("fc.weight 1 -1e-3\nfc.weight 0 0.5");
        assert!((compare(&one, &other).unwrap() - 1e-3).abs() < 1e-12);
        assert!(compare(&one, &parse("fc.weight 0 NaN\nfc.weight 1 0")).unwrap().is_nan());
        assert!(compare(&one, &parse("fc.weight 0 0.5")).unwrap_err().contains("fc.weight 1"));
        assert!(compare(&parse(""), &parse("")).is_err());
    }
}
