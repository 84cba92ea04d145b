//! Generated pictures in CIFAR-10's layout, for machines that can't have CIFAR-10.
//!
//! Ten classes of shapes and textures, each drawn in a random colour, place, size and rotation on a random background,
//! with clutter behind and before it and noise over all: hard enough that a learning curve shows. What a network
//! reaches on them says nothing about CIFAR-10, so they have class names of their own.

use candle_cnn::random::stream;
use rand::Rng;
use rand::seq::SliceRandom;
use std::f32::consts::{PI, SQRT_2, TAU};
use std::ops::Range;

use super::records::{PICTURE_LENGTH, SHAPE};
use super::{Dataset, Source, Split};

/// The ten classes of the stand-in, in the order of the labels.
pub const STAND_IN_CLASSES: [&str; 10] =
    ["disc", "ring", "square", "frame", "triangle", "star", "cross", "crescent", "stripes", "checks"];
/// The seed of the stand-in where none is named.
pub const STAND_IN_SEED: u64 = 0;
/// The training pictures of the stand-in where no number is named: an epoch of them takes seconds without a GPU.
pub const STAND_IN_TRAIN: usize = 4000;
/// The test pictures of the stand-in where no number is named.
pub const STAND_IN_TEST: usize = 1000;

const SIDE: usize = SHAPE.1;
/// Samples along each side of a pixel: edges come out in four steps instead of two.
const SUPERSAMPLES: usize = 2;

// How hard the classes are to tell apart. Chosen by trying, so that the original's network and settings, on 4,000 of
// these pictures, get about a third of the test pictures right after the first epoch and nine in ten after twenty.
// What keeps the others from being recognised is low opacity under much noise; what makes the beginning quick is that
// subjects are bright on dark and nearly upright.
const BACKGROUND: Range<f32> = 0.0..130.0;
const SUBJECT: Range<f32> = 130.0..255.0;
const SUBJECT_OPACITY: Range<f32> = 0.08..1.0;
/// Half the subject's side, in units of half the picture's.
const SUBJECT_SIZE: Range<f32> = 0.5..0.9;
/// Width over height.
const SUBJECT_ASPECT: Range<f32> = 0.8..1.25;
/// In radians: up to 11 degrees.
const SUBJECT_ANGLE: Range<f32> = -0.2..0.2;
/// The share of the free space that a subject's middle may move through.
const SUBJECT_ROOM: f32 = 0.7;
const CLUTTER: Range<f32> = 20.0..235.0;
const CLUTTER_SIZE: Range<f32> = 0.08..0.3;
const CLUTTER_BEHIND: Range<usize> = 1..5;
const CLUTTER_BEFORE: Range<usize> = 0..6;
/// The noise's standard deviation, in steps of a byte.
const NOISE: Range<f32> = 5.0..55.0;

/// `count` pictures of a split. Picture i depends on (seed, split, i) alone.
pub(super) fn generate(seed: u64, split: Split, count: usize) -> Dataset {
    let purpose = match split {
        Split::Train => "stand-in train",
        Split::Test => "stand-in test",
    };
    let mut pixels = vec![0; count.saturating_mul(PICTURE_LENGTH)];
    let mut labels = Vec::with_capacity(count);
    for (index, picture) in pixels.chunks_exact_mut(PICTURE_LENGTH).enumerate() {
        // Every ten pictures in a row have each class once, in random order: balanced at any length.
        let (block, place) = (index / SHAPES.len(), index % SHAPES.len());
        let mut classes: [usize; SHAPES.len()] = std::array::from_fn(|class| class);
        classes.shuffle(&mut stream(seed, &format!("{purpose} labels"), &[block as u64]));
        draw(SHAPES[classes[place]], &mut stream(seed, purpose, &[index as u64]), picture);
        labels.push(classes[place] as u32);
    }
    let class_names = STAND_IN_CLASSES.map(String::from).to_vec();
    Dataset::from_checked(Source::StandIn { seed }, split, SHAPE, class_names, pixels, labels)
}

/// What can be drawn; the first ten are the classes, in the order of their names.
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
    /// Whether the point (u, v) is inside; the shape fills about [-1, 1] × [-1, 1], with v downwards.
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

type Colour = [f32; 3];

fn colour(rng: &mut impl Rng, values: Range<f32>) -> Colour {
    std::array::from_fn(|_| rng.random_range(values.clone()))
}

/// A shape with its place, in units of half the picture's side from its middle.
struct Placed {
    shape: Shape,
    colour: Colour,
    opacity: f32,
    centre: (f32, f32),
    size: (f32, f32),
    angle: f32,
    detail: f32,
}

impl Placed {
    /// Draws onto an RGB canvas.
    fn paint(&self, canvas: &mut [Colour]) {
        let (sin, cos) = self.angle.sin_cos();
        // The corners of [-1, 1]² turn within √2 of the middle.
        let reach = self.size.0.max(self.size.1) * SQRT_2;
        let pixels = |centre: f32| {
            let to_pixel = |at: f32| ((at + 1.0) * SIDE as f32 / 2.0).clamp(0.0, SIDE as f32);
            to_pixel(centre - reach).floor() as usize..to_pixel(centre + reach).ceil() as usize
        };
        for row in pixels(self.centre.1) {
            for column in pixels(self.centre.0) {
                let mut hits = 0;
                for sample in 0..SUPERSAMPLES * SUPERSAMPLES {
                    let at = |pixel: usize, sub: usize| {
                        let fraction = (sub as f32 + 0.5) / SUPERSAMPLES as f32;
                        (pixel as f32 + fraction) * 2.0 / SIDE as f32 - 1.0
                    };
                    let x = at(column, sample % SUPERSAMPLES) - self.centre.0;
                    let y = at(row, sample / SUPERSAMPLES) - self.centre.1;
                    let (u, v) = ((cos * x + sin * y) / self.size.0, (cos * y - sin * x) / self.size.1);
                    hits += usize::from(self.shape.contains(u, v, self.detail));
                }
                let cover = self.opacity * hits as f32 / (SUPERSAMPLES * SUPERSAMPLES) as f32;
                for (value, colour) in canvas[row * SIDE + column].iter_mut().zip(self.colour) {
                    *value += cover * (colour - *value);
                }
            }
        }
    }
}

/// A small thing that is not the picture's subject.
fn clutter(rng: &mut impl Rng) -> Placed {
    let size = rng.random_range(CLUTTER_SIZE);
    Placed {
        shape: if rng.random_bool(0.6) { Shape::Bar } else { Shape::Disc },
        colour: colour(rng, CLUTTER),
        opacity: rng.random_range(0.5..1.0),
        centre: (rng.random_range(-1.0..1.0), rng.random_range(-1.0..1.0)),
        size: (size, size * rng.random_range(0.4..1.0)),
        angle: rng.random_range(0.0..TAU),
        detail: rng.random(),
    }
}

/// Draws one picture as channel planes, [3, 32, 32].
fn draw(shape: Shape, rng: &mut impl Rng, picture: &mut [u8]) {
    // The background runs from one colour to another, in any direction.
    let (from, to) = (colour(rng, BACKGROUND), colour(rng, BACKGROUND));
    let (sin, cos) = rng.random_range(0.0..TAU).sin_cos();
    let mut canvas: Vec<Colour> = (0..SIDE * SIDE)
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
    let centre = (rng.random_range(-room..room), rng.random_range(-room..room));
    Placed {
        shape,
        colour: colour(rng, SUBJECT),
        opacity: rng.random_range(SUBJECT_OPACITY),
        centre,
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
        // A float above 255 or below 0 becomes the nearest byte.
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
