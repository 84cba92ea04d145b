//! Generated images in CIFAR-10's layout, for machines without CIFAR-10.
//!
//! Ten classes of shapes and textures, each in a random color, place, size and rotation on a random background, with
//! clutter behind and in front and noise over everything: hard enough to show a learning curve. A network's accuracy on
//! them says nothing about CIFAR-10, so they have their own class names.

use candle_cnn::random::stream;
use rand::Rng;
use rand::seq::SliceRandom;
use std::f32::consts::{PI, SQRT_2, TAU};
use std::ops::Range;

use super::records::{PICTURE_LENGTH, SHAPE};
use super::{Dataset, Source, Split};

/// The ten classes of the stand-in, in the order of the labels.
const STAND_IN_CLASSES: [&str; 10] =
    ["disc", "ring", "square", "frame", "triangle", "star", "cross", "crescent", "stripes", "checks"];
/// The stand-in's default seed.
pub(super) const STAND_IN_SEED: u64 = 0;
/// The stand-in's default number of training images: an epoch takes seconds without a GPU.
pub(super) const STAND_IN_TRAIN: usize = 4000;
/// The stand-in's default number of test images.
pub(super) const STAND_IN_TEST: usize = 1000;

const SIDE: usize = SHAPE.1;
/// Samples along each side of a pixel: edges come out in four steps instead of two.
const SUPERSAMPLES: usize = 2;

// How hard the classes are to tell apart. Found by trial: with 4,000 of these images, the original's network and
// settings reach about a third of the test images after the first epoch and nine in ten after twenty. Low opacity under
// strong noise makes the rest hard; bright, nearly upright subjects on a dark background make the start fast.
const BACKGROUND: Range<f32> = 0.0..130.0;
const SUBJECT: Range<f32> = 130.0..255.0;
const SUBJECT_OPACITY: Range<f32> = 0.08..1.0;
/// Half the subject's side, in units of half the image's.
const SUBJECT_SIZE: Range<f32> = 0.5..0.9;
/// Width over height.
const SUBJECT_ASPECT: Range<f32> = 0.8..1.25;
/// In radians: up to 11 degrees.
const SUBJECT_ANGLE: Range<f32> = -0.2..0.2;
/// The share of the free space that a subject's center may move in.
const SUBJECT_ROOM: f32 = 0.7;
const CLUTTER: Range<f32> = 20.0..235.0;
const CLUTTER_SIZE: Range<f32> = 0.08..0.3;
const CLUTTER_BEHIND: Range<usize> = 1..5;
const CLUTTER_BEFORE: Range<usize> = 0..6;
/// The noise's standard deviation, in steps of a byte.
const NOISE: Range<f32> = 5.0..55.0;

/// `count` images of a split. Image i depends on (seed, split, i) alone.
pub(super) fn generate(seed: u64, split: Split, count: usize) -> Dataset {
    let purpose = match split {
        Split::Train => "stand-in train",
        Split::Test => "stand-in test",
    };
    let mut pixels = vec![0; count.saturating_mul(PICTURE_LENGTH)];
    let mut labels = Vec::with_capacity(count);
    for (index, picture) in pixels.chunks_exact_mut(PICTURE_LENGTH).enumerate() {
        // Each block of ten images has every class once, in random order, so the set is always balanced.
        let (block, place) = (index / SHAPES.len(), index % SHAPES.len());
        let mut classes: [usize; SHAPES.len()] = std::array::from_fn(|class| class);
        classes.shuffle(&mut stream(seed, &format!("{purpose} labels"), &[block as u64]));
        draw(SHAPES[classes[place]], &mut stream(seed, purpose, &[index as u64]), picture);
        labels.push(classes[place] as u32);
    }
    let class_names = STAND_IN_CLASSES.map(String::from).to_vec();
    Dataset::from_checked(Source::StandIn { seed }, split, SHAPE, class_names, pixels, labels)
}

/// The shapes; the first ten are the classes, in the order of their names.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Disc,
    Ring,
    Square,
    Frame,
    Triangle,
    Star,
    Cross,
    Crescent,
    Stripes,
    Checks,
    /// Clutter only.
    Bar,
}

const SHAPES: [Shape; STAND_IN_CLASSES.len()] = [
    Shape::Disc,
    Shape::Ring,
    Shape::Square,
    Shape::Frame,
    Shape::Triangle,
    Shape::Star,
    Shape::Cross,
    Shape::Crescent,
    Shape::Stripes,
    Shape::Checks,
];

impl Shape {
    /// Whether the point (u, v) is inside; the shape fills about [-1, 1] × [-1, 1], with v pointing down.
    /// `detail` in [0, 1] varies what the class leaves open: the width of a ring, the number of stripes.
    fn contains(self, u: f32, v: f32, detail: f32) -> bool {
        let radius = || (u * u + v * v).sqrt();
        let box_radius = u.abs().max(v.abs());
        match self {
            Shape::Disc => radius() < 1.0,
            Shape::Ring => (0.4 + 0.3 * detail..1.0).contains(&radius()),
            Shape::Square => box_radius < 0.88,
            Shape::Frame => (0.38 + 0.25 * detail..0.9).contains(&box_radius),
            Shape::Triangle => v < 0.6 && v > 1.85 * u.abs() - 1.05,
            Shape::Star => {
                // Five points: between a point and a notch the edge is a straight line from radius 1 to 0.4.
                let turn = (u.atan2(-v) / TAU * 5.0).rem_euclid(1.0);
                let off_point = (turn - turn.round()).abs() * TAU / 5.0;
                let (notch_x, notch_y) = ((PI / 5.0).cos() * 0.4, (PI / 5.0).sin() * 0.4);
                let (x, y) = (radius() * off_point.cos(), radius() * off_point.sin());
                // Which side of the line from (1, 0) to the notch the point lies on.
                (notch_x - 1.0) * y - notch_y * (x - 1.0) > 0.0
            }
            Shape::Cross => {
                let arm = 0.22 + 0.15 * detail;
                box_radius < 1.0 && u.abs().min(v.abs()) < arm
            }
            Shape::Crescent => {
                let (shift, inner) = (0.45 + 0.15 * detail, 0.85);
                radius() < 1.0 && (u - shift).powi(2) + v * v > inner * inner
            }
            Shape::Stripes => {
                let stripes = 2.5 + 1.5 * detail;
                box_radius < 0.95 && (u * stripes).rem_euclid(2.0) < 1.0
            }
            Shape::Checks => {
                let squares = 1.6 + 0.8 * detail;
                let odd = |t: f32| (t * squares).rem_euclid(2.0) < 1.0;
                box_radius < 0.95 && odd(u) != odd(v)
            }
            Shape::Bar => u.abs() < 1.0 && v.abs() < 0.12 + 0.2 * detail,
        }
    }
}

type Color = [f32; 3];

fn color(rng: &mut impl Rng, values: Range<f32>) -> Color {
    std::array::from_fn(|_| rng.random_range(values.clone()))
}

/// A shape and its place, in units of half the image's side, from the center.
struct Placed {
    shape: Shape,
    color: Color,
    opacity: f32,
    center: (f32, f32),
    size: (f32, f32),
    angle: f32,
    detail: f32,
}

impl Placed {
    /// Draws onto an RGB canvas.
    fn paint(&self, canvas: &mut [Color]) {
        let (sin, cos) = self.angle.sin_cos();
        // The corners of [-1, 1]² turn within √2 of the middle.
        let reach = self.size.0.max(self.size.1) * SQRT_2;
        let pixels = |center: f32| {
            let to_pixel = |at: f32| ((at + 1.0) * SIDE as f32 / 2.0).clamp(0.0, SIDE as f32);
            to_pixel(center - reach).floor() as usize..to_pixel(center + reach).ceil() as usize
        };
        for row in pixels(self.center.1) {
            for column in pixels(self.center.0) {
                let mut hits = 0;
                for sample in 0..SUPERSAMPLES * SUPERSAMPLES {
                    let at = |pixel: usize, sub: usize| {
                        let fraction = (sub as f32 + 0.5) / SUPERSAMPLES as f32;
                        (pixel as f32 + fraction) * 2.0 / SIDE as f32 - 1.0
                    };
                    let x = at(column, sample % SUPERSAMPLES) - self.center.0;
                    let y = at(row, sample / SUPERSAMPLES) - self.center.1;
                    let (u, v) = ((cos * x + sin * y) / self.size.0, (cos * y - sin * x) / self.size.1);
                    hits += usize::from(self.shape.contains(u, v, self.detail));
                }
                let cover = self.opacity * hits as f32 / (SUPERSAMPLES * SUPERSAMPLES) as f32;
                for (value, color) in canvas[row * SIDE + column].iter_mut().zip(self.color) {
                    *value += cover * (color - *value);
                }
            }
        }
    }
}

/// A small shape that is not the subject.
fn clutter(rng: &mut impl Rng) -> Placed {
    let size = rng.random_range(CLUTTER_SIZE);
    Placed {
        shape: if rng.random_bool(0.6) { Shape::Bar } else { Shape::Disc },
        color: color(rng, CLUTTER),
        opacity: rng.random_range(0.5..1.0),
        center: (rng.random_range(-1.0..1.0), rng.random_range(-1.0..1.0)),
        size: (size, size * rng.random_range(0.4..1.0)),
        angle: rng.random_range(0.0..TAU),
        detail: rng.random(),
    }
}

/// Draws one image as channel planes, [3, 32, 32].
fn draw(shape: Shape, rng: &mut impl Rng, picture: &mut [u8]) {
    // The background fades from one color to another, in any direction.
    let (from, to) = (color(rng, BACKGROUND), color(rng, BACKGROUND));
    let (sin, cos) = rng.random_range(0.0..TAU).sin_cos();
    let mut canvas: Vec<Color> = (0..SIDE * SIDE)
        .map(|pixel| {
            let at = |index: usize| (index as f32 + 0.5) * 2.0 / SIDE as f32 - 1.0;
            let along = 0.5 + (cos * at(pixel % SIDE) + sin * at(pixel / SIDE)) / (2.0 * SQRT_2);
            std::array::from_fn(|channel| from[channel] + along * (to[channel] - from[channel]))
        })
        .collect();
    for _ in 0..rng.random_range(CLUTTER_BEHIND) {
        clutter(rng).paint(&mut canvas);
    }
    let size = rng.random_range(SUBJECT_SIZE);
    let aspect = rng.random_range(SUBJECT_ASPECT);
    let room = SUBJECT_ROOM * (1.0 - size);
    let center = (rng.random_range(-room..room), rng.random_range(-room..room));
    Placed {
        shape,
        color: color(rng, SUBJECT),
        opacity: rng.random_range(SUBJECT_OPACITY),
        center,
        size: (size * aspect.sqrt(), size / aspect.sqrt()),
        angle: rng.random_range(SUBJECT_ANGLE),
        detail: rng.random(),
    }
    .paint(&mut canvas);
    for _ in 0..rng.random_range(CLUTTER_BEFORE) {
        clutter(rng).paint(&mut canvas);
    }
    // A sum of four bytes has mean 510 and standard deviation 147.8, and is nearly Gaussian.
    let noise = rng.random_range(NOISE) / 147.8;
    let mut bytes = vec![0; PICTURE_LENGTH * 4];
    rng.fill_bytes(&mut bytes);
    for (index, (value, bytes)) in picture.iter_mut().zip(bytes.chunks_exact(4)).enumerate() {
        let sum: u32 = bytes.iter().map(|&byte| u32::from(byte)).sum();
        let clean = canvas[index % (SIDE * SIDE)][index / (SIDE * SIDE)];
        // The cast clamps to 0 … 255.
        *value = (clean + noise * (sum as f32 - 510.0)).round() as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_the_area_of_its_shape() {
        // Areas in units of the square [-1, 1]², from the definitions; a grid of 200² points is within 1 %.
        let share = |shape: Shape, detail| {
            let at = |index: usize| (index as f32 + 0.5) / 100.0 - 1.0;
            let inside = (0..200 * 200).filter(|i| shape.contains(at(i % 200), at(i / 200), detail)).count();
            inside as f32 / 40_000.0
        };
        let star = 5.0 * 0.4 * (PI / 5.0).sin() / 4.0;
        for (shape, detail, expected) in [
            (Shape::Disc, 0.0, PI / 4.0),
            (Shape::Ring, 0.5, PI / 4.0 * (1.0 - 0.55f32.powi(2))),
            (Shape::Square, 0.0, 0.88f32.powi(2)),
            (Shape::Frame, 0.0, 0.9f32.powi(2) - 0.38f32.powi(2)),
            (Shape::Triangle, 0.0, 1.65f32.powi(2) / 1.85 / 4.0),
            (Shape::Star, 0.0, star),
            (Shape::Cross, 0.0, 2.0 * 0.22 - 0.22f32.powi(2)),
        ] {
            let found = share(shape, detail);
            assert!((found - expected).abs() < 0.01, "{shape:?}: {found} of the square, not {expected}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_pictures_and_another_seed_others() {
        let set = |seed, split| generate(seed, split, 30);
        let (a, b, c) = (set(1, Split::Train), set(1, Split::Train), set(2, Split::Train));
        let test = set(1, Split::Test);
        for index in 0..30 {
            assert_eq!(a.pixels(index).unwrap(), b.pixels(index).unwrap());
            assert_ne!(a.pixels(index).unwrap(), c.pixels(index).unwrap());
            assert_ne!(a.pixels(index).unwrap(), test.pixels(index).unwrap());
        }
        assert_eq!(a.labels(), b.labels());
        assert_ne!(a.labels(), c.labels());
    }
}
