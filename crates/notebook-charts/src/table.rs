//! Tables: [`Table`].

use crate::text;
use std::fmt;
use std::fmt::Write as _;

/// A table for a notebook: HTML that follows the theme, with a plain-text twin in aligned columns.
///
/// Columns of numbers are aligned right.
///
/// ```
/// use notebook_charts::Table;
/// let table = Table::new(["layer", "parameters"]).row(["conv1", "896"]).row(["bn1", "64"]);
/// let table = table.footer(["total", "960"]).caption("two layers");
/// assert_eq!(table.to_string(), "\
/// two layers
/// layer  parameters
/// ─────  ──────────
/// conv1         896
/// bn1            64
/// ─────  ──────────
/// total         960");
/// assert!(Table::new(["name"]).row(["<b>"]).html().contains("&lt;b&gt;"));
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a table is shown as the last expression of a cell"]
pub struct Table {
    caption: Option<String>,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    footer: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with a header.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Self { header: cells(header), ..Self::default() }
    }

    /// Adds a row. A short row is padded with empty cells; a long one widens the table.
    pub fn row<S: Into<String>>(mut self, row: impl IntoIterator<Item = S>) -> Self {
        self.rows.push(cells(row));
        self
    }

    /// Adds a row of totals, below a rule.
    pub fn footer<S: Into<String>>(mut self, row: impl IntoIterator<Item = S>) -> Self {
        self.footer.push(cells(row));
        self
    }

    /// Sets the caption, above the table.
    pub fn caption(mut self, caption: impl Into<String>) -> Self {
        self.caption = Some(text::one_line(&caption.into()));
        self
    }

    /// The table as HTML, without colors, so that it works in light and dark themes.
    pub fn html(&self) -> String {
        // Inline, because notebooks strip <style> from untrusted outputs.
        const RULE: &str = "1px solid currentColor";
        let right = self.right_aligned();
        let line = |row: &[String], tag: &str, border: &str| {
            let mut html = String::from("<tr>");
            for (column, right) in right.iter().enumerate() {
                let align = if *right { "right" } else { "left" };
                let cell = text::escape(row.get(column).map_or("", String::as_str));
                let _ = write!(html, "<{tag} style=\"text-align:{align};padding:2px 10px{border}\">{cell}</{tag}>");
            }
            html + "</tr>\n"
        };
        let mut html = String::from(
            "<table style=\"border-collapse:collapse;color:inherit;background:transparent;font-variant-numeric:tabular-nums\">\n",
        );
        if let Some(caption) = &self.caption {
            let style = "caption-side:top;text-align:left;color:inherit;font-weight:bold;padding:2px 10px";
            let _ = writeln!(html, "<caption style=\"{style}\">{}</caption>", text::escape(caption));
        }
        let _ =
            write!(html, "<thead>\n{}</thead>\n<tbody>\n", line(&self.header, "th", &format!(";border-bottom:{RULE}")));
        html.extend(self.rows.iter().map(|row| line(row, "td", "")));
        html.push_str("</tbody>\n");
        if !self.footer.is_empty() {
            html.push_str("<tfoot>\n");
            for (index, row) in self.footer.iter().enumerate() {
                let border = if index == 0 { format!(";border-top:{RULE}") } else { String::new() };
                html.push_str(&line(row, "td", &border));
            }
            html.push_str("</tfoot>\n");
        }
        html + "</table>"
    }

    fn lines(&self) -> impl Iterator<Item = &Vec<String>> {
        self.rows.iter().chain(&self.footer)
    }

    /// For each column, whether its cells are numbers, empty or a dash, and at least one is a number.
    fn right_aligned(&self) -> Vec<bool> {
        let columns = self.lines().chain([&self.header]).map(Vec::len).max().unwrap_or(0);
        let column = |index: usize| self.lines().filter_map(move |row| row.get(index)).filter(|cell| !cell.is_empty());
        let numbers = |index: usize| {
            column(index).all(|cell| is_number(cell) || matches!(cell.as_str(), "–" | "—" | "-"))
                && column(index).any(|cell| is_number(cell))
        };
        (0..columns).map(numbers).collect()
    }
}

/// Whether a cell is a number, optionally with sign, separators and unit: `1,563`, `77.0 %`, `−2.1e-5`, `3.2 s`.
fn is_number(cell: &str) -> bool {
    let digits = cell.trim_start_matches(['+', '-', '−', '±', '<', '≈', '~', '.', ' ']);
    digits.starts_with(|c: char| c.is_ascii_digit())
        && cell.split_whitespace().filter(|word| word.starts_with(char::is_alphabetic)).count() <= 1
}

fn cells<S: Into<String>>(row: impl IntoIterator<Item = S>) -> Vec<String> {
    row.into_iter().map(|cell| text::one_line(&cell.into())).collect()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let right = self.right_aligned();
        let length = |row: &Vec<String>, column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
        let widths: Vec<usize> = (0..right.len())
            .map(|column| self.lines().chain([&self.header]).map(|row| length(row, column)).max().unwrap_or(0))
            .collect();
        let line = |row: &[String]| {
            let cell = |(column, &width): (usize, &usize)| {
                let cell = row.get(column).map_or("", String::as_str);
                if right[column] { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            };
            let line = widths.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ");
            line.trim_end().to_string()
        };
        let rule = widths.iter().map(|&width| "─".repeat(width)).collect::<Vec<_>>().join("  ");
        let mut lines: Vec<String> = self.caption.iter().cloned().collect();
        lines.extend([line(&self.header), rule.clone()]);
        lines.extend(self.rows.iter().map(|row| line(row)));
        if !self.footer.is_empty() {
            lines.push(rule);
            lines.extend(self.footer.iter().map(|row| line(row)));
        }
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_numbers_stand_flush_right() {
        let table = Table::new(["name", "count", "share", "note"]).row(["plane", "1,000", "77.0 %", "1st"]).row([
            "cat",
            "–",
            "−0.5 %",
            "two words here",
        ]);
        assert_eq!(table.right_aligned(), [false, true, true, false]);
        assert!(is_number("3.2 s") && is_number("1.2e-5") && !is_number("[1, 3]") && !is_number("v1"));
    }

    #[test]
    fn ragged_and_empty_tables_are_well_formed() {
        let ragged = Table::new(["a"]).row(["1", "2 & 3"]).row(Vec::<String>::new()).caption("x < y\nz");
        for table in [ragged, Table::default(), Table::new(["a", "b"])] {
            roxmltree::Document::parse(&table.html()).unwrap();
            let _ = table.to_string();
        }
    }
}
