//! Pictures beside what a classifier says of them.

use crate::error::PlotError;
use crate::figure::Figure;
use crate::numbers;
use crate::png;
use crate::svg::{Anchor, Document, Type};
use crate::table::Table;
use crate::text;
use image::RgbImage;

const WIDTH: u32 = 720;
/// Free space at the card's edge and between the parts, in pixels.
const EDGE: f64 = 14.0;
const GAP: f64 = 12.0;
const TITLE: Type = Type { size: 15.0, color: "#222222", bold: true, anchor: Anchor::Start };
const LABEL: Type = Type { size: 12.0, color: "#222222", bold: false, anchor: Anchor::Start };
const CAPTION: Type = Type { size: 11.0, color: "#555555", bold: false, anchor: Anchor::Middle };
/// The top of the pictures and bars, below the title.
const TOP: f64 = 40.0;
/// The height of a row of bars, and of a bar in it.
const ROW: f64 = 30.0;
const BAR: f64 = 18.0;
/// The longest name shown in full, in pixels.
const LONGEST_NAME: f64 = 110.0;
/// Room for "100.0 %".
const VALUE: f64 = 56.0;

/// Pictures in their own size with captions, and beside them a bar for each name with its share, from 0 to 1.
///
/// ```
/// let picture = image::RgbImage::new(64, 48);
/// let pictures = [(&picture, "the picture".to_string())];
/// let figure = notebook_charts::picture_with_bars("cat.jpg", &pictures, &["cat", "dog"], &[0.912, 0.088])?;
/// assert!(figure.svg().contains("91.2 %"));
/// # Ok::<(), notebook_charts::PlotError>(())
/// ```
///
/// # Errors
/// [`PlotError::Length`] if names and shares differ in number, [`PlotError::Empty`] without a picture,
/// [`PlotError::Setting`] if the pictures leave no room for bars: they share 720 pixels.
pub fn picture_with_bars(
    title: &str,
    pictures: &[(&RgbImage, String)],
    names: &[&str],
    shares: &[f64],
) -> Result<Figure, PlotError> {
    PlotError::check_length("shares", shares.len(), "names", names.len())?;
    let side = pictures.iter().map(|(picture, _)| picture.width().max(picture.height())).max();
    let side = f64::from(side.ok_or_else(|| PlotError::Empty { what: "there is no picture".into() })?);
    let rows = ROW * names.len() as f64;
    let height = TOP + (side + 20.0).max(rows) + EDGE;
    let mut svg = Document::new(WIDTH, height.ceil() as u32);
    let room = f64::from(WIDTH) - 2.0 * EDGE;
    svg.text(&text::shorten(&text::one_line(title), TITLE.size, room), EDGE, 26.0, TITLE);
    let mut x = EDGE;
    for (picture, caption) in pictures {
        let (w, h) = (f64::from(picture.width()), f64::from(picture.height()));
        let (left, top) = (x + (side - w) / 2.0, TOP + (side - h) / 2.0);
        let png = png::data_uri(&png::encode(picture)?);
        svg.element(
            "image",
            format_args!("x=\"{left:.1}\" y=\"{top:.1}\" width=\"{w}\" height=\"{h}\" href=\"{png}\""),
        );
        let caption = text::shorten(caption, CAPTION.size, side + GAP);
        svg.text(&caption, x + side / 2.0, TOP + side + 15.0, CAPTION);
        x += side + GAP;
    }
    let lines = names.iter().zip(shares).map(|(name, share)| [text::one_line(name), numbers::percent(*share)]);
    let table = lines.fold(Table::new(["", "share"]).caption(title), Table::row);
    let names: Vec<String> =
        names.iter().map(|name| text::shorten(&text::one_line(name), LABEL.size, LONGEST_NAME)).collect();
    let column = text::widest(names.iter().map(String::as_str), LABEL.size);
    let start = x + GAP + column + 8.0;
    let longest = f64::from(WIDTH) - EDGE - VALUE - start;
    if longest < 1.0 {
        let value = format!("{} pixels", pictures.len() as f64 * side);
        let wanted = "less, to leave room for the bars: they share 720 pixels";
        return Err(PlotError::Setting { name: "the pictures' room", value, wanted });
    }
    let first = TOP + (side - rows).max(0.0) / 2.0;
    for (row, (name, &share)) in names.iter().zip(shares).enumerate() {
        let top = first + ROW * row as f64 + (ROW - BAR) / 2.0;
        let baseline = top + BAR - 4.5;
        svg.text(name, start - 8.0, baseline, Type { anchor: Anchor::End, ..LABEL });
        // NaN and ∞ get no bar.
        let long = longest * if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        // A pale track shows how long 100 % would be.
        for (length, color) in [(longest, "#E4E4E4"), (long, "#0072B2")] {
            svg.element(
                "rect",
                format_args!("x=\"{start:.1}\" y=\"{top:.1}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{color}\""),
            );
        }
        svg.text(&numbers::percent(share), f64::from(WIDTH) - EDGE, baseline, Type { anchor: Anchor::End, ..LABEL });
    }
    Ok(Figure::from_svg(title, &svg.finish())?.with_text(table.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svg::tests::{inside, texts};

    #[test]
    fn all_lies_on_the_card() {
        let picture = RgbImage::new(160, 120);
        let pictures =
            [(&picture, "the picture".to_string()), (&picture, "a caption that is far too long for it".into())];
        for (title, names, shares) in [
            ("cat.jpg", vec!["cat", "dog"], vec![0.912, 0.088]),
            ("", vec![], vec![]),
            (
                &*"<&> ".repeat(99),
                vec!["a very long name of a class indeed"; 9],
                vec![f64::NAN, 1.0, 0.0, -1.0, 2.0, 0.1, 0.2, 0.3, 0.4],
            ),
        ] {
            let figure = picture_with_bars(title, &pictures, &names, &shares).unwrap();
            inside(&figure.svg());
        }
        let figure = picture_with_bars("cat.jpg", &pictures, &["cat"], &[0.912]).unwrap();
        assert!(texts(&figure.svg()).contains(&"91.2 %".to_string()), "{:?}", texts(&figure.svg()));
        assert!(figure.text().ends_with("cat  91.2 %"), "{}", figure.text());
        assert!(matches!(picture_with_bars("", &pictures, &["cat"], &[]), Err(PlotError::Length { .. })));
        assert!(matches!(picture_with_bars("", &[], &[], &[]), Err(PlotError::Empty { .. })));
        let wide = [(&RgbImage::new(640, 480), "too wide".to_string())];
        assert!(matches!(picture_with_bars("", &wide, &["cat"], &[0.5]), Err(PlotError::Setting { .. })));
    }
}
