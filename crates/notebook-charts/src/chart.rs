//! What all charts share: colors, the card with title, legend and notes, and axes, drawn with plotters.

use crate::axis::Axis;
use crate::error::PlotError;
use crate::figure::{DrawError, LONGEST_SIDE};
use crate::text;
use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::drawing::DrawingArea;
use plotters::prelude::{
    Cartesian2d, ChartBuilder, Circle, Color, IntoFont, PathElement, RGBColor, Rectangle, SVGBackend, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, ShapeStyle, TextStyle};

/// A part of a drawing, with coordinates in pixels.
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// The part inside the axes, with positions on them as coordinates.
pub(crate) type Chart<'a, 'b> = ChartContext<'b, SVGBackend<'a>, Cartesian2d<Axis, Axis>>;

/// Text and main lines.
pub(crate) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
/// Secondary text: tick labels, notes.
pub(crate) const MUTED: RGBColor = RGBColor(0x55, 0x55, 0x55);
/// Grid lines.
pub(crate) const GRID: RGBColor = RGBColor(0xE4, 0xE4, 0xE4);
/// Axes.
const AXIS: RGBColor = RGBColor(0x99, 0x99, 0x99);

pub(crate) const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xB2);
pub(crate) const VERMILLION: RGBColor = RGBColor(0xD5, 0x5E, 0x00);
/// Okabe and Ito's palette, which readers with any kind of color blindness can tell apart
/// (<https://jfly.uni-koeln.de/color/>), without yellow, which is too pale for a line on white, and with black last.
const PALETTE: [RGBColor; 7] = [
    BLUE,
    VERMILLION,
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
    RGBColor(0x00, 0x00, 0x00),
];

pub(crate) const TITLE_SIZE: f64 = 15.0;
pub(crate) const LABEL_SIZE: f64 = 12.0;
pub(crate) const SMALL_SIZE: f64 = 11.0;
/// Free space at a card's edge, in pixels.
pub(crate) const EDGE: i32 = 14;
/// Limits that leave most of a card to its chart.
const MOST_TITLE_LINES: usize = 2;
const MOST_LEGEND_ROWS: usize = 5;
const MOST_NOTES: usize = 3;
/// The length of a tick, in pixels; plotters puts the label at twice that distance.
const TICK: i32 = 4;

/// The sides of a chart, in pixels: smaller ones have no room for axes.
const SIDES: std::ops::RangeInclusive<u32> = 160..=LONGEST_SIDE;

/// `size`, if it is one that a chart can have.
pub(crate) fn size(size: (u32, u32)) -> Result<(u32, u32), PlotError> {
    if SIDES.contains(&size.0) && SIDES.contains(&size.1) {
        return Ok(size);
    }
    let value = format!("{}×{}", size.0, size.1);
    Err(PlotError::Setting { name: "size", value, wanted: "from 160 to 8,192 pixels wide and high" })
}

/// The look of a series: its color, and dashes once all colors are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub color: RGBColor,
    pub dashed: bool,
}

impl Look {
    pub(crate) fn nth(index: usize) -> Self {
        Self { color: PALETTE[index % PALETTE.len()], dashed: !(index / PALETTE.len()).is_multiple_of(2) }
    }

    pub(crate) fn stroke(self) -> ShapeStyle {
        self.color.stroke_width(2)
    }
}

/// Text of `size` pixels; plotters' SVG backend divides sizes by 1.24.
pub(crate) fn font(size: f64, color: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size * 1.24).into_font().color(&color)
}

fn bold(size: f64) -> TextStyle<'static> {
    ("sans-serif", size * 1.24).into_font().style(FontStyle::Bold).color(&INK)
}

/// Writes text at a position in pixels.
pub(crate) fn write(
    area: &Area,
    content: &str,
    at: (i32, i32),
    style: TextStyle<'static>,
    h_pos: HPos,
    v_pos: VPos,
) -> Result<(), DrawError> {
    Ok(area.draw(&Text::new(content.to_string(), at, style.pos(Pos::new(h_pos, v_pos))))?)
}

/// Draws title, legend (name and look of each series) and notes, and returns the area left for the chart.
pub(crate) fn frame<'a>(
    area: &Area<'a>,
    title: &str,
    legend: &[(String, Look)],
    notes: &[String],
) -> Result<Area<'a>, DrawError> {
    let (width, height) = area.dim_in_pixel();
    let room = f64::from(width) - 2.0 * f64::from(EDGE);
    let mut top = 10;
    // Bold text is about a tenth wider.
    for line in text::wrap(&text::one_line(title), 1.1 * TITLE_SIZE, room).iter().take(MOST_TITLE_LINES) {
        write(area, line, (EDGE, top), bold(TITLE_SIZE), HPos::Left, VPos::Top)?;
        top += 20;
    }
    let mut x = EDGE;
    let swatch = 22;
    let mut rows = 0;
    for (index, (name, look)) in legend.iter().enumerate() {
        let name = text::shorten(name, LABEL_SIZE, room - f64::from(swatch));
        let entry = swatch + 6 + text::width(&name, LABEL_SIZE) as i32;
        if index > 0 && x + entry > width as i32 - EDGE {
            x = EDGE;
            top += 18;
            rows += 1;
        }
        if rows == MOST_LEGEND_ROWS {
            let rest = format!("… and {} more", legend.len() - index);
            write(area, &rest, (x, top + 9), font(LABEL_SIZE, MUTED), HPos::Left, VPos::Center)?;
            break;
        }
        let y = top + 9;
        let dashes: &[(i32, i32)] = if look.dashed { &[(0, 6), (8, 14), (16, 22)] } else { &[(0, swatch)] };
        for (from, to) in dashes {
            area.draw(&PathElement::new(vec![(x + from, y), (x + to, y)], look.stroke()))?;
        }
        write(area, &name, (x + swatch + 6, y), font(LABEL_SIZE, INK), HPos::Left, VPos::Center)?;
        x += entry + 18;
    }
    if !legend.is_empty() {
        top += 20;
    }
    let mut lines: Vec<String> =
        notes.iter().flat_map(|note| text::wrap(&text::one_line(note), SMALL_SIZE, room)).collect();
    if lines.len() > MOST_NOTES {
        lines.truncate(MOST_NOTES);
        lines.push("…".to_string());
    }
    let bottom = height as i32 - 8 - 15 * lines.len() as i32;
    for (line, index) in lines.iter().zip(0..) {
        write(area, line, (EDGE, bottom + 15 * index), font(SMALL_SIZE, MUTED), HPos::Left, VPos::Top)?;
    }
    let top = (top + 4).min(bottom - 1).max(0) as u32;
    let (_, below) = area.split_vertically(top);
    let (rest, _) = below.split_vertically(bottom.max(0) as u32 - top.min(bottom.max(0) as u32));
    Ok(rest)
}

/// Draws axes with ticks, grid and labels, and returns the chart to draw on.
pub(crate) fn axes<'a, 'b>(area: &'b Area<'a>, x: &Axis, y: &Axis) -> Result<Chart<'a, 'b>, DrawError> {
    let (width, height) = area.dim_in_pixel();
    let label_room = if y.label.is_empty() { 0 } else { 22 };
    let tick_room = text::widest(y.ticks.iter().map(|(_, label)| label.as_str()), LABEL_SIZE).ceil() as i32;
    // The last label is centered at the end of the axis.
    let last_label = x.ticks.last().map_or(0.0, |(_, label)| text::width(label, LABEL_SIZE)) / 2.0;
    let x_room = if x.label.is_empty() { 26 } else { 44 };
    let mut chart = ChartBuilder::on(area)
        .margin_top(8)
        .margin_bottom(6)
        .margin_left(EDGE)
        .margin_right(EDGE.max(last_label.ceil() as i32 + 4))
        .x_label_area_size(x_room)
        .y_label_area_size(tick_room + 2 * TICK + 2 + label_room)
        .build_cartesian_2d(x.clone(), y.clone())?;
    let mut mesh = chart.configure_mesh();
    mesh.set_all_tick_mark_size(TICK)
        .axis_style(AXIS)
        .bold_line_style(GRID)
        .label_style(font(LABEL_SIZE, MUTED))
        .axis_desc_style(font(LABEL_SIZE, INK));
    if !x.grid {
        mesh.disable_x_mesh();
    }
    if !y.grid {
        mesh.disable_y_mesh();
    }
    if !x.label.is_empty() {
        mesh.x_desc(text::shorten(&x.label, LABEL_SIZE, f64::from(width) * 0.8));
    }
    if !y.label.is_empty() {
        mesh.y_desc(text::shorten(&y.label, LABEL_SIZE, f64::from(height) * 0.8));
    }
    mesh.draw()?;
    Ok(chart)
}

/// A filled rectangle between two corners.
pub(crate) fn rectangle<C>(corner: C, opposite: C, color: RGBColor) -> Rectangle<C> {
    Rectangle::new([corner, opposite], color.filled())
}

/// A filled point of `radius` pixels.
pub(crate) fn point(at: (f64, f64), radius: u32, color: RGBColor) -> Circle<(f64, f64), u32> {
    Circle::new(at, radius, color.filled())
}
