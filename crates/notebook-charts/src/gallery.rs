//! Images in rows, with labels.

use crate::error::PlotError;
use crate::figure::{Figure, LONGEST_SIDE};
use crate::png;
use crate::svg::{Anchor, Document, Type};
use crate::text;
use image::{Rgb, RgbImage, imageops};
use std::fmt::Write;

/// The approximate length of a picture's longer side, in pixels; pictures are enlarged by whole factors.
const SIDE: u32 = 96;
/// Keeps filters of a few pixels from being enlarged to the full size.
const LARGEST_SCALE: u32 = 24;
const LABEL_SIZE: f64 = 11.5;
/// The height of a line of text, in pixels.
const LINE: u32 = 15;
/// The widest label shown in full, in pixels.
const LONGEST_LABEL: f64 = 170.0;
/// Further lines of a label are dropped.
const MOST_LINES: usize = 3;
/// Free space at the card's edge and between pictures, in pixels.
const EDGE: u32 = 14;
const GAP: u32 = 12;

/// Pictures in rows of `columns`, with a label below each; [`Gallery`] has more settings.
///
/// # Errors
/// As [`Gallery::draw`].
///
/// ```
/// use image::{Rgb, RgbImage};
/// let images = vec![RgbImage::from_pixel(32, 32, Rgb([20, 90, 160])); 3];
/// let figure = notebook_charts::gallery(&images, &["plane", "ship", "bird"], 8)?;
/// assert!(figure.svg().contains("plane"));
/// # Ok::<(), notebook_charts::PlotError>(())
/// ```
pub fn gallery(images: &[RgbImage], titles: &[impl AsRef<str>], columns: usize) -> Result<Figure, PlotError> {
    Gallery::new(images.to_vec()).labels(titles).columns(columns).draw()
}

/// Pictures in rows, each with a label and, for predictions, a border that says whether it was right. Set it up, then
/// call [`draw`](Gallery::draw).
///
/// ```
/// use notebook_charts::Gallery;
/// use image::{Rgb, RgbImage};
/// let images = vec![RgbImage::from_pixel(32, 32, Rgb([90, 60, 20])); 2];
/// let figure = Gallery::new(images)
///     .title("The surest mistakes")
///     .labels(&["dog 98 %", "cat 97 %\ntrue: frog"])
///     .correct(&[true, false])
///     .draw()?;
/// assert!(figure.text().contains("cat 97 %, true: frog (wrong)"));
/// # Ok::<(), notebook_charts::PlotError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is drawn before `draw`"]
pub struct Gallery {
    title: String,
    images: Vec<RgbImage>,
    labels: Option<Vec<String>>,
    correct: Option<Vec<bool>>,
    columns: usize,
    outlined: bool,
}

impl Gallery {
    /// A gallery of pictures of any sizes.
    pub fn new(images: Vec<RgbImage>) -> Self {
        // Eight pictures of 96 pixels are as wide as a notebook's column.
        Self { title: String::new(), images, labels: None, correct: None, columns: 8, outlined: false }
    }

    /// Sets the title.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Sets a label for each picture, of up to three lines separated by `\n`.
    pub fn labels(mut self, labels: &[impl AsRef<str>]) -> Self {
        self.labels = Some(labels.iter().map(|label| label.as_ref().to_string()).collect());
        self
    }

    /// Marks each picture as classified correctly, with a thin blue border, or wrongly, with a thick vermillion border
    /// and a label in that color.
    pub fn correct(mut self, correct: &[bool]) -> Self {
        self.correct = Some(correct.to_vec());
        self
    }

    /// Sets the number of pictures in a row; 8 by default.
    pub fn columns(mut self, columns: usize) -> Self {
        self.columns = columns;
        self
    }

    /// Draws a thin line around each picture, for white ones.
    pub(crate) fn outlined(mut self) -> Self {
        self.outlined = true;
        self
    }

    /// Draws the gallery: pictures enlarged by a whole factor without smoothing, embedded as one PNG (about 4 kB for a
    /// photograph of 32×32 pixels).
    ///
    /// # Errors
    /// [`PlotError::Empty`] without a picture or for one without pixels, [`PlotError::Length`] if labels or `correct`
    /// don't match the pictures in number, [`PlotError::Setting`] for 0 columns or a side over 8,192 pixels.
    pub fn draw(&self) -> Result<Figure, PlotError> {
        self.check()?;
        let count = self.images.len();
        let columns = self.columns.min(count);
        let largest_width = self.images.iter().map(RgbImage::width).max().unwrap_or(1);
        let largest_height = self.images.iter().map(RgbImage::height).max().unwrap_or(1);
        let scale = (SIDE / largest_width.max(largest_height)).clamp(1, LARGEST_SCALE);
        let labels: Vec<Vec<String>> = (0..count).map(|index| self.label(index)).collect();
        let longest = text::widest(labels.iter().flatten().map(String::as_str), LABEL_SIZE).ceil() as u32;
        let lines = labels.iter().map(Vec::len).max().unwrap_or(0) as u32;

        // All pictures go into one PNG, a sprite, enlarged here, because not every SVG viewer enlarges without
        // smoothing. PNG compresses repeated pixels well: the file grows by a third.
        let (largest_width, largest_height) = (largest_width * scale, largest_height * scale);
        let column = longest.max(largest_width) + GAP;
        let row = largest_height + lines * LINE + GAP;
        let rows = count.div_ceil(columns);
        let (wide, high) = (u64::from(column) * columns as u64, u64::from(row) * rows as u64);
        if wide.max(high) > u64::from(LONGEST_SIDE) {
            let wanted = "at most 8,192 pixels wide and high: show fewer pictures, or smaller ones";
            return Err(PlotError::Setting { name: "the gallery's size", value: format!("{wide}×{high}"), wanted });
        }
        let rows = rows as u32;
        let place = |index: usize, width: u32| {
            ((index % columns) as u32 * column + (column - width) / 2, (index / columns) as u32 * row)
        };
        let sprite_size = (column * columns as u32, row * (rows - 1) + largest_height);
        let mut sprite = RgbImage::from_pixel(sprite_size.0, sprite_size.1, Rgb([255; 3]));
        for (index, image) in self.images.iter().enumerate() {
            let (w, h) = (image.width() * scale, image.height() * scale);
            let (x, y) = place(index, w);
            let enlarged = imageops::resize(image, w, h, imageops::FilterType::Nearest);
            imageops::replace(&mut sprite, &enlarged, i64::from(x), i64::from(y));
        }
        let sprite_at = (
            EDGE - GAP / 2,
            EDGE + if self.title.is_empty() { 0 } else { 24 } + if self.correct.is_some() { 26 } else { 0 },
        );
        let width = sprite_at.0 + sprite_size.0 + EDGE - GAP / 2;
        let key_width = if self.correct.is_some() { 190 } else { 0 };
        let title = text::wrap(&self.title, 16.5, 600.0).join(" ");
        let width = width.max(key_width).max((text::width(&title, 16.5).ceil() as u32).min(620) + 2 * EDGE);
        let height = sprite_at.1 + sprite_size.1 + lines * LINE + if lines == 0 { EDGE } else { 10 };

        let mut svg = Document::new(width, height);
        let head = Type { size: 15.0, color: "#222222", bold: true, anchor: Anchor::Start };
        let left = f64::from(EDGE);
        if !self.title.is_empty() {
            svg.text(&text::shorten(&title, 16.5, f64::from(width) - 2.0 * left), left, 26.0, head);
        }
        if self.correct.is_some() {
            let y = f64::from(sprite_at.1) - 16.0;
            let plain = Type { size: LABEL_SIZE, color: "#222222", bold: false, anchor: Anchor::Start };
            for (x, correct, word) in [(left, true, "right"), (left + 80.0, false, "wrong")] {
                frame(&mut svg, (x + 2.0, y - 6.0, 12.0, 12.0), correct);
                svg.text(word, x + 24.0, y + 4.0, Type { color: label_color(Some(correct)), ..plain });
            }
        }
        let (w, h) = sprite_size;
        let png = png::data_uri(&png::encode(&sprite)?);
        let (x, y) = sprite_at;
        svg.element(
            "image",
            format_args!(
                "x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" style=\"image-rendering:pixelated\" \
                 href=\"{png}\""
            ),
        );
        for (index, (image, label)) in self.images.iter().zip(&labels).enumerate() {
            let (w, h) = (image.width() * scale, image.height() * scale);
            let (column_x, row_y) = place(index, w);
            let below = f64::from(y + row_y + largest_height);
            let (x, y, w, h) = (f64::from(x + column_x), f64::from(y + row_y), f64::from(w), f64::from(h));
            let correct = self.correct.as_ref().map(|correct| correct[index]);
            if let Some(correct) = correct {
                frame(&mut svg, (x, y, w, h), correct);
            } else if self.outlined {
                let (x, y, w, h) = (x - 0.5, y - 0.5, w + 1.0, h + 1.0);
                let place =
                    format_args!("x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" fill=\"none\" stroke=\"#BBBBBB\"");
                svg.element("rect", place);
            }
            let color = label_color(correct);
            for (line, number) in label.iter().zip(0_u32..) {
                let look = Type { size: LABEL_SIZE, color, bold: false, anchor: Anchor::Middle };
                svg.text(line, x + w / 2.0, below + f64::from(LINE * (number + 1)), look);
            }
        }
        let pictures = if count == 1 { "picture" } else { "pictures" };
        let title = if self.title.is_empty() { format!("{count} {pictures}") } else { self.title.clone() };
        Ok(Figure::from_svg(&title, &svg.finish())?.with_text(self.plain_text(&title, columns)))
    }

    fn check(&self) -> Result<(), PlotError> {
        let count = self.images.len();
        if count == 0 {
            return Err(PlotError::Empty { what: "the gallery has no pictures".to_string() });
        }
        if let Some(index) = self.images.iter().position(|image| image.width() == 0 || image.height() == 0) {
            return Err(PlotError::Empty {
                what: format!("picture {index} of the gallery, counted from 0, has no pixels"),
            });
        }
        if self.columns == 0 {
            return Err(PlotError::Setting { name: "columns", value: "0".to_string(), wanted: "at least 1" });
        }
        let labels = self.labels.as_ref().map_or(count, Vec::len);
        let correct = self.correct.as_ref().map_or(count, Vec::len);
        PlotError::check_length("labels", labels, "pictures", count)?;
        PlotError::check_length("entries of `correct`", correct, "pictures", count)
    }

    fn label(&self, index: usize) -> Vec<String> {
        let label = self.labels.as_ref().map_or("", |labels| &labels[index]);
        let lines = label.lines().take(MOST_LINES);
        lines.map(|line| text::shorten(&text::one_line(line), LABEL_SIZE, LONGEST_LABEL)).collect()
    }

    fn plain_text(&self, title: &str, columns: usize) -> String {
        let mut plain = text::one_line(title);
        if self.labels.is_none() && self.correct.is_none() {
            return plain;
        }
        for index in 0..self.images.len() {
            let label = self.labels.as_ref().map_or("", |labels| &labels[index]);
            let label = label.lines().collect::<Vec<_>>().join(", ");
            let verdict =
                self.correct.as_ref().map_or("", |correct| if correct[index] { " (right)" } else { " (wrong)" });
            let start = if index % columns == 0 { "\n" } else { " | " };
            let _ = write!(plain, "{start}{}{verdict}", text::one_line(&label));
        }
        plain
    }
}

/// The border of a picture that was classified correctly or wrongly, told apart by width as well as color.
fn frame(svg: &mut Document, (x, y, width, height): (f64, f64, f64, f64), correct: bool) {
    let (color, stroke) = if correct { ("#0072B2", 2.0) } else { ("#D55E00", 4.0) };
    // Outside the picture, so that it covers no pixel.
    let out = stroke / 2.0;
    svg.element(
        "rect",
        format_args!(
            "x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{stroke}\"",
            x - out,
            y - out,
            width + stroke,
            height + stroke
        ),
    );
}

/// Vermillion itself is too pale for text on white.
fn label_color(correct: Option<bool>) -> &'static str {
    match correct {
        Some(false) => "#B04A00",
        _ => "#222222",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::png::tests::embedded;
    use crate::svg::tests::{count, inside, texts};

    /// A picture in which each pixel has its own color.
    fn picture(width: u32, height: u32, seed: u8) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([(3 * x) as u8, (5 * y) as u8, seed]))
    }

    fn sprite(svg: &str) -> (RgbImage, [u32; 4]) {
        let document = roxmltree::Document::parse(svg).unwrap();
        let (pixels, image) = embedded(&document);
        (pixels, ["x", "y", "width", "height"].map(|name| image.attribute(name).unwrap().parse().unwrap()))
    }

    #[test]
    fn every_picture_is_in_the_one_sprite_enlarged_by_a_whole_factor() {
        let images: Vec<RgbImage> = (0..10).map(|seed| picture(32, 32, seed)).collect();
        let labels: Vec<String> = (0..10).map(|index| format!("<label> & {index}")).collect();
        let svg = gallery(&images, &labels, 4).unwrap().svg();
        assert_eq!(count(&svg, "image"), 1);
        assert_eq!(texts(&svg), labels);
        inside(&svg);
        let (sprite, [_, _, width, height]) = sprite(&svg);
        assert_eq!((width, height), sprite.dimensions());
        for image in &images {
            let large = imageops::resize(image, 96, 96, imageops::FilterType::Nearest);
            let found = (0..height - 95).any(|y| {
                (0..width - 95).any(|x| {
                    sprite.get_pixel(x, y) == image.get_pixel(0, 0)
                        && large.enumerate_pixels().all(|(i, j, pixel)| sprite.get_pixel(x + i, y + j) == pixel)
                })
            });
            assert!(found, "picture {}", image.get_pixel(0, 0)[2]);
        }
    }

    #[test]
    fn pictures_of_few_pixels_stand_as_close_as_photographs() {
        let filters = vec![picture(3, 3, 0); 8];
        let photographs = vec![picture(32, 32, 0); 8];
        let width = |images| Gallery::new(images).draw().unwrap().size().0;
        // Enlarged to 72 and 96 pixels.
        assert_eq!(width(filters) + 8 * (96 - 72), width(photographs));
    }

    #[test]
    fn borders_lie_exactly_around_their_pictures() {
        let images = vec![picture(32, 32, 1), picture(16, 8, 2), picture(32, 20, 3)];
        let svg =
            Gallery::new(images.clone()).labels(&["a", "b", "c"]).correct(&[true, false, true]).draw().unwrap().svg();
        inside(&svg);
        let (sprite, [left, top, ..]) = sprite(&svg);
        let document = roxmltree::Document::parse(&svg).unwrap();
        let frames: Vec<_> =
            document.descendants().filter(|node| node.attribute("stroke-width").is_some()).skip(2).collect();
        assert_eq!(frames.len(), 3);
        for (frame, image) in frames.iter().zip(&images) {
            let number = |name: &str| frame.attribute(name).unwrap().parse::<f64>().unwrap();
            let stroke = number("stroke-width");
            assert_eq!(number("width") - stroke, f64::from(3 * image.width()));
            assert_eq!(number("height") - stroke, f64::from(3 * image.height()));
            let x = number("x") + stroke / 2.0 - f64::from(left);
            let y = number("y") + stroke / 2.0 - f64::from(top);
            assert_eq!(sprite.get_pixel(x as u32, y as u32), image.get_pixel(0, 0));
        }
    }

    #[test]
    fn long_labels_and_large_pictures_fit() {
        let label = "a label that is much longer than any that anyone would write below a small picture\nb\nc\nd";
        for side in [1, 5, 32, 97, 224] {
            let figure = Gallery::new(vec![picture(side, side, 0); 3]).labels(&[label; 3]).title(label).draw().unwrap();
            inside(&figure.svg());
            assert_eq!(texts(&figure.svg()).iter().filter(|text| *text == "d").count(), 0);
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let one = || Gallery::new(vec![picture(2, 2, 0)]);
        assert!(matches!(Gallery::new(vec![]).draw(), Err(PlotError::Empty { .. })));
        assert!(matches!(Gallery::new(vec![RgbImage::new(0, 3)]).draw(), Err(PlotError::Empty { .. })));
        assert!(matches!(one().columns(0).draw(), Err(PlotError::Setting { .. })));
        let many = Gallery::new(vec![picture(2, 2, 0); 10_000]);
        assert!(matches!(many.columns(usize::MAX).draw(), Err(PlotError::Setting { .. })));
        assert!(matches!(one().labels(&["a"; 0]).draw(), Err(PlotError::Length { found: 0, .. })));
        assert!(matches!(one().correct(&[true, false]).draw(), Err(PlotError::Length { found: 2, .. })));
    }
}
