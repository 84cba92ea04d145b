//! Confusion matrices: which classes are mistaken for which.

use crate::chart::{self, Area, EDGE, INK, LABEL_SIZE, MUTED, SMALL_SIZE};
use crate::error::PlotError;
use crate::figure::{DrawError, Figure};
use crate::numbers;
use crate::png;
use crate::table::Table;
use crate::text;
use image::RgbImage;
use plotters::prelude::RGBColor;
use plotters::style::FontTransform;
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{BLACK, WHITE};

/// The preferred side of the matrix, in pixels; the size of cells follows from it, within [`CELL`].
const SIDE: i32 = 480;
/// The smallest and the largest side of a cell, in pixels.
const CELL: (i32, i32) = (6, 46);
/// More than this fits on no screen.
const MOST_CLASSES: usize = 200;
/// With more classes than this, cells have no room for a number.
const MOST_NUMBERED: usize = 24;
/// The longest class name shown in full, in pixels.
const LONGEST_NAME: f64 = 110.0;
/// The width of a step in the color key, in pixels, and the number of steps.
const KEY: (i32, i32) = (4, 60);
/// The smallest legible size of a number, in pixels.
const SMALLEST_NUMBER: f64 = 7.5;

/// A heat map of a confusion matrix, where `counts[t][p]` images of true class `t` were classified as `p`.
///
/// Colors show each cell's share of its row, so that classes of different sizes can be compared; counts are written
/// where there is room. On the right is each class's recall, the diagonal over the sum of the row. With more than 24
/// classes, the plain-text twin lists what each class is most often mistaken for.
///
/// # Errors
/// [`PlotError::Empty`] without a class, [`PlotError::RowLength`] if `counts` isn't square, [`PlotError::Length`] if
/// there isn't one name for each row, [`PlotError::Setting`] for more than 200 classes.
///
/// ```
/// let figure = notebook_charts::confusion_matrix("Confusion matrix", &[vec![90, 10], vec![30, 70]], &["cat", "dog"])?;
/// assert!(figure.text().contains("160 of 200 right (80.0 %)"));
/// # Ok::<(), notebook_charts::PlotError>(())
/// ```
pub fn confusion_matrix(
    title: &str,
    counts: &[Vec<u64>],
    class_names: &[impl AsRef<str>],
) -> Result<Figure, PlotError> {
    confusion_matrix_with_unclassified(title, counts, &vec![0; counts.len()], class_names)
}

/// As [`confusion_matrix`], where `unclassified[t]` images of true class `t` were assigned to no class; they count as
/// errors.
///
/// # Errors
/// As [`confusion_matrix`], and [`PlotError::Length`] if there isn't one number in `unclassified` for each row.
pub fn confusion_matrix_with_unclassified(
    title: &str,
    counts: &[Vec<u64>],
    unclassified: &[u64],
    class_names: &[impl AsRef<str>],
) -> Result<Figure, PlotError> {
    let classes = counts.len();
    if classes == 0 {
        return Err(PlotError::Empty { what: "the confusion matrix has no classes".to_string() });
    }
    if let Some((row, found)) = counts.iter().map(Vec::len).enumerate().find(|(_, found)| *found != classes) {
        return Err(PlotError::RowLength { row, found, expected: classes });
    }
    let rows = "rows of the confusion matrix";
    PlotError::check_length("class names", class_names.len(), rows, classes)?;
    PlotError::check_length("numbers of unclassified images", unclassified.len(), rows, classes)?;
    let wanted = "at most 200: draw the classes of interest";
    PlotError::check_number("the number of classes", classes, MOST_CLASSES, wanted)?;
    let names: Vec<String> = class_names.iter().map(|name| text::one_line(name.as_ref())).collect();
    let all_of = |(row, other): (&Vec<u64>, &u64)| row.iter().chain([other]).map(|count| u128::from(*count)).sum();
    let totals: Vec<u128> = counts.iter().zip(unclassified).map(all_of).collect();
    let (right, all) =
        (counts.iter().enumerate().map(|(i, row)| u128::from(row[i])).sum::<u128>(), totals.iter().sum::<u128>());
    let summary =
        format!("{} of {} right ({})", numbers::grouped(right), numbers::grouped(all), percent(share(right, all)));
    let summary = match unclassified.iter().map(|count| u128::from(*count)).sum::<u128>() {
        0 => summary,
        1 => format!("{summary}; 1 was classified as none of these classes"),
        others => format!("{summary}; {} were classified as none of these classes", numbers::grouped(others)),
    };

    let layout = Layout::new(counts, &names);
    let Layout { cell, left, top, side, width, height, .. } = layout;
    let figure = Figure::draw(title, (width as u32, height as u32), |area| {
        let notes = [format!("{summary}; recall is the share of a class's images that was recognized")];
        chart::frame(area, title, &[], &notes)?;
        let small = || chart::font(SMALL_SIZE, MUTED);
        area.draw(&chart::rectangle((left, top), (left + side, top + side), heat(0.0)))?;
        if classes <= MOST_NUMBERED {
            draw_cells(area, counts, &totals, &layout)?;
        }
        let up = || chart::font(LABEL_SIZE, INK).transform(FontTransform::Rotate270);
        for index in (0..classes).step_by(layout.label_every) {
            let middle = index as i32 * cell + cell / 2;
            let name = text::shorten(&names[index], LABEL_SIZE, LONGEST_NAME);
            let ink = || chart::font(LABEL_SIZE, INK);
            chart::write(area, &name, (left - 6, top + middle), ink(), HPos::Right, VPos::Center)?;
            if layout.names_upright {
                chart::write(area, &name, (left + middle, top + side + 6), up(), HPos::Right, VPos::Center)?;
            } else {
                chart::write(area, &name, (left + middle, top + side + 5), ink(), HPos::Center, VPos::Top)?;
            }
            let recall = percent(share(u128::from(counts[index][index]), totals[index]));
            chart::write(area, &recall, (layout.recall, top + middle), ink(), HPos::Right, VPos::Center)?;
        }
        chart::write(area, "recall", (layout.recall, top - 6), small(), HPos::Right, VPos::Bottom)?;
        chart::write(area, "true class", (EDGE, top + side / 2), up(), HPos::Center, VPos::Top)?;
        let below = (left + side / 2, top + side + layout.names_below + 8);
        chart::write(area, "predicted class", below, chart::font(LABEL_SIZE, INK), HPos::Center, VPos::Top)?;

        // The color key.
        let (x, y) = (left, below.1 + 30);
        let (step, steps) = (KEY.0, KEY.1);
        for index in 0..steps {
            let color = heat(f64::from(index) / f64::from(steps - 1));
            area.draw(&chart::rectangle((x + index * step, y), (x + (index + 1) * step, y + 10), color))?;
        }
        chart::write(area, "0 %", (x - 6, y + 5), small(), HPos::Right, VPos::Center)?;
        let end = x + steps * step + 6;
        chart::write(area, "100 % of the true class", (end, y + 5), small(), HPos::Left, VPos::Center)?;
        Ok(())
    })?;
    if classes > MOST_NUMBERED {
        return Ok(with_cells(&figure, counts, &totals, &layout)?
            .with_text(format!("{}\n{summary}", confusions(title, counts, &totals, &names))));
    }
    let header =
        ["true \\ predicted".to_string()].into_iter().chain(names.iter().cloned()).chain(["recall".to_string()]);
    let mut table = Table::new(header).caption(title);
    for (index, (name, row)) in names.iter().zip(counts).enumerate() {
        let recall = percent(share(u128::from(row[index]), totals[index]));
        let cells = row.iter().map(|count| numbers::grouped(u128::from(*count)));
        table = table.row([name.clone()].into_iter().chain(cells).chain([recall]));
    }
    Ok(figure.with_text(format!("{table}\n{summary}")))
}

/// `count` as a share of `total`; None if `total` is 0.
fn share(count: u128, total: u128) -> Option<f64> {
    if total == 0 { None } else { Some(count as f64 / total as f64) }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_string(), numbers::percent)
}

/// The cells as rectangles, with their counts where there is room.
fn draw_cells(area: &Area, counts: &[Vec<u64>], totals: &[u128], layout: &Layout) -> Result<(), DrawError> {
    let Layout { cell, left, top, .. } = *layout;
    for (row, (line, total)) in counts.iter().zip(totals).enumerate() {
        for (column, count) in line.iter().enumerate() {
            let color = heat(share(u128::from(*count), *total).unwrap_or(0.0));
            let (x, y) = (left + column as i32 * cell, top + row as i32 * cell);
            // One pixel less leaves a line between cells.
            area.draw(&chart::rectangle((x, y), (x + cell - 1, y + cell - 1), color))?;
            if let Some(size) = layout.number_size {
                let color = if *count == 0 { MUTED } else { contrasting(color) };
                let (at, number) = ((x + cell / 2, y + cell / 2), numbers::grouped(u128::from(*count)));
                chart::write(area, &number, at, chart::font(size, color), HPos::Center, VPos::Center)?;
            }
        }
    }
    Ok(())
}

/// The drawing with cells as one embedded image: as rectangles, many classes would take megabytes.
fn with_cells(figure: &Figure, counts: &[Vec<u64>], totals: &[u128], layout: &Layout) -> Result<Figure, PlotError> {
    let Layout { cell, left, top, side, .. } = *layout;
    let cells = RgbImage::from_fn(side as u32, side as u32, |x, y| {
        let (row, column) = ((y / cell as u32) as usize, (x / cell as u32) as usize);
        let RGBColor(red, green, blue) = heat(share(u128::from(counts[row][column]), totals[row]).unwrap_or(0.0));
        image::Rgb([red, green, blue])
    });
    let png = png::data_uri(&png::encode(&cells)?);
    let picture = format!(
        "<image x=\"{left}\" y=\"{top}\" width=\"{side}\" height=\"{side}\" style=\"image-rendering:pixelated\" \
         href=\"{png}\"/>\n</svg>"
    );
    let svg = figure.svg();
    Figure::from_svg(figure.title(), &format!("{}{picture}", svg.trim_end_matches("</svg>")))
}

/// Each class's recall and what it is most often mistaken for.
fn confusions(title: &str, counts: &[Vec<u64>], totals: &[u128], names: &[String]) -> Table {
    let header = ["true class", "images", "recall", "most often classified as", "images"];
    let mut table = Table::new(header).caption(title);
    for (index, row) in counts.iter().enumerate() {
        let recall = percent(share(u128::from(row[index]), totals[index]));
        let others = row.iter().enumerate().filter(|(column, count)| *column != index && **count > 0);
        // The first one of equals.
        let (other, count) = others
            .rev()
            .max_by_key(|(_, count)| **count)
            .map_or(("–", 0), |(column, count)| (names[column].as_str(), *count));
        let [images, count] = [totals[index], u128::from(count)].map(numbers::grouped);
        table = table.row([names[index].clone(), images, recall, other.to_string(), count]);
    }
    table
}

/// Positions and sizes, in pixels.
struct Layout {
    cell: i32,
    side: i32,
    left: i32,
    top: i32,
    width: i32,
    height: i32,
    /// The right end of the recall column.
    recall: i32,
    /// The height of the names below the matrix.
    names_below: i32,
    names_upright: bool,
    /// Every how many classes a name is written.
    label_every: usize,
    /// The text size of counts; None if cells have no room for them.
    number_size: Option<f64>,
}

impl Layout {
    fn new(counts: &[Vec<u64>], names: &[String]) -> Self {
        let classes = counts.len() as i32;
        let cell = (SIDE / classes).clamp(CELL.0, CELL.1);
        let side = cell * classes;
        let short: Vec<String> = names.iter().map(|name| text::shorten(name, LABEL_SIZE, LONGEST_NAME)).collect();
        let longest = text::widest(short.iter().map(String::as_str), LABEL_SIZE).ceil() as i32;
        // A line of text needs 13 pixels.
        let label_every = 13_usize.div_ceil(cell as usize);
        let names_upright = longest + 6 > cell * label_every as i32;
        let names_below = if names_upright { longest + 6 } else { 18 };
        let largest = counts.iter().flatten().copied().max().unwrap_or(0);
        let number = text::width(&numbers::grouped(u128::from(largest)), 1.0);
        let number_size = (f64::from(cell - 9) / number).min(12.0);
        let number_size = (number_size >= SMALLEST_NUMBER && counts.len() <= MOST_NUMBERED).then_some(number_size);
        let left = EDGE + 24 + longest.max(30) + 6;
        let top = 56;
        // The recall column takes 60 pixels; below a small matrix the color key is the widest part.
        let key = KEY.0 * KEY.1 + 12 + text::width("100 % of the true class", SMALL_SIZE).ceil() as i32;
        let width = (left + (side + 60).max(key) + EDGE).max(440);
        let height = top + side + names_below + 8 + 30 + 18 + 42;
        Self {
            cell,
            side,
            left,
            top,
            width,
            height,
            recall: left + side + 60,
            names_below,
            names_upright,
            label_every,
            number_size,
        }
    }
}

/// The color of a share from 0 to 1: from near white through sky blue to dark blue, steadily darker, so that it also
/// works in grayscale.
fn heat(share: f64) -> RGBColor {
    const STOPS: [(f64, [f64; 3]); 4] = [
        (0.0, [246.0, 248.0, 250.0]),
        (0.35, [120.0, 190.0, 226.0]),
        (0.7, [0.0, 114.0, 178.0]),
        (1.0, [0.0, 56.0, 100.0]),
    ];
    // The root spreads small shares out: these are the confusions to look for.
    let place = share.clamp(0.0, 1.0).sqrt();
    let index = STOPS[1..3].iter().filter(|(stop, _)| place >= *stop).count();
    let ((from, a), (to, b)) = (STOPS[index], STOPS[index + 1]);
    let mix = |channel: usize| (a[channel] + (b[channel] - a[channel]) * (place - from) / (to - from)).round() as u8;
    RGBColor(mix(0), mix(1), mix(2))
}

/// Relative luminance, 0 to 1, as WCAG 2 defines it (<https://www.w3.org/TR/WCAG22/#dfn-relative-luminance>).
fn luminance(color: RGBColor) -> f64 {
    let linear = |channel: u8| {
        let c = f64::from(channel) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(color.0) + 0.7152 * linear(color.1) + 0.0722 * linear(color.2)
}

/// WCAG 2's contrast ratio of two colors, 1 to 21.
fn contrast(a: RGBColor, b: RGBColor) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// White or black, whichever stands out more on `background`.
fn contrasting(background: RGBColor) -> RGBColor {
    if contrast(background, WHITE) > contrast(background, BLACK) { WHITE } else { BLACK }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::png::tests::embedded;
    use crate::svg::tests::{count, inside, texts};

    fn names(classes: usize) -> Vec<String> {
        (0..classes).map(|index| format!("class {index} <&>")).collect()
    }

    #[test]
    fn each_cell_is_drawn_with_its_count() {
        let counts: Vec<Vec<u64>> =
            (0..10).map(|t| (0..10).map(|p| if t == p { 700 + t } else { 10 * p }).collect()).collect();
        let svg = confusion_matrix("t", &counts, &names(10)).unwrap().svg();
        // The card, the background, the cells and the steps of the key.
        assert_eq!(count(&svg, "rect"), 1 + 1 + 100 + KEY.1 as usize);
        let texts = texts(&svg);
        for expected in ["700", "709", "90", "true class", "predicted class", "recall", "class 3 <&>"] {
            assert!(texts.iter().any(|text| text == expected), "{expected} in {texts:?}");
        }
        inside(&svg);
    }

    #[test]
    fn one_class_and_a_hundred_fit() {
        let one = confusion_matrix("t", &[vec![7]], &["only"]).unwrap();
        assert!(one.text().contains("100.0 %"));
        inside(&one.svg());
        let counts: Vec<Vec<u64>> =
            (0..100).map(|t| (0..100).map(|p| u64::from(t == p) * 90 + u64::from(p < 3)).collect()).collect();
        let hundred = confusion_matrix("t", &counts, &names(100)).unwrap();
        let svg = hundred.svg();
        inside(&svg);
        assert_eq!(count(&svg, "rect"), 1 + 1 + KEY.1 as usize);
        let document = roxmltree::Document::parse(&svg).unwrap();
        let (pixels, _) = embedded(&document);
        let cell = pixels.width() / 100;
        for (row, column) in [(0, 0), (0, 1), (7, 7), (50, 2), (2, 50), (99, 99)] {
            let RGBColor(r, g, b) = heat(counts[row][column] as f64 / counts[row].iter().sum::<u64>() as f64);
            assert_eq!(pixels.get_pixel(column as u32 * cell + 3, row as u32 * cell + 3).0, [r, g, b]);
        }
        assert!(svg.len() < 60_000 && hundred.text().len() < 10_000);
        assert!(matches!(confusion_matrix("t", &vec![vec![0; 201]; 201], &names(201)), Err(PlotError::Setting { .. })));
    }

    #[test]
    fn classes_without_images_have_no_recall() {
        let figure = confusion_matrix("t", &[vec![0, 0], vec![0, 0]], &["a", "b"]).unwrap();
        assert!(figure.text().ends_with("0 of 0 right (–)"), "{}", figure.text());
        inside(&figure.svg());
    }

    #[test]
    fn huge_counts_do_not_overflow() {
        let figure = confusion_matrix("t", &[vec![u64::MAX, u64::MAX], vec![0, u64::MAX]], &["a", "b"]).unwrap();
        assert!(figure.text().contains("(66.7 %)"));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        assert!(matches!(confusion_matrix("t", &[], &["a"; 0]), Err(PlotError::Empty { .. })));
        assert!(matches!(confusion_matrix("t", &[vec![1, 2]], &["a"]), Err(PlotError::RowLength { found: 2, .. })));
        let short = confusion_matrix_with_unclassified("t", &[vec![1]], &[], &["a"]);
        assert!(matches!(short, Err(PlotError::Length { found: 0, expected: 1, .. })));
        let error = confusion_matrix("t", &[vec![1]], &["a", "b"]).unwrap_err();
        assert_eq!(error.to_string(), "2 class names for 1 rows of the confusion matrix: give one for each");
    }

    #[test]
    fn shares_darken_and_numbers_stand_out() {
        let shades: Vec<RGBColor> = (0..=100).map(|share| heat(f64::from(share) / 100.0)).collect();
        assert!(shades.is_sorted_by(|a, b| luminance(*a) > luminance(*b)));
        for shade in shades {
            // WCAG requires 4.5 for text.
            assert!(contrast(shade, contrasting(shade)) >= 4.5, "{shade:?}");
        }
    }
}
