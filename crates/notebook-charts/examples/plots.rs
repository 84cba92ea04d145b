//! Draws figures of each kind into a folder: `cargo run --example plots [FOLDER] [BATCH.bin]`. Only networks are missing, which
//! cifar-lab's example `draw_network` draws.
//!
//! The galleries show pictures from a file in CIFAR-10's binary layout, if one is given. All numbers are made up.

use image::{Rgb, RgbImage};
use notebook_charts::{
    self as charts, Bars, Curves, Figure, Gallery, HeatMaps, Histogram, LossAndAccuracy, PlotError, ReliabilityBin,
    Scale, Series, Table,
};
use std::path::PathBuf;

const CLASSES: [&str; 10] = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let folder = arguments.next().unwrap_or_else(|| std::env::temp_dir().join("notebook-charts"));
    let (images, labels) = pictures(arguments.next())?;
    for (name, figure) in figures(&images, &labels)? {
        let path = folder.join(name).with_extension("svg");
        figure.save(&path)?;
        println!("{} ({} bytes)\n{}\n", path.display(), figure.svg().len(), figure.text());
    }
    let table = Table::new(["layer", "output shape", "parameters", "share"])
        .row(["conv1", "[1, 32, 32, 32]", "896", "0.1 %"])
        .row(["fc1", "[1, 512]", "524,800", "54.2 %"])
        .footer(["total", "", "525,696", ""])
        .caption("A table");
    std::fs::write(folder.join("table.html"), table.html())?;
    println!("{table}");
    Ok(())
}

/// Twenty-four pictures and their classes.
fn pictures(path: Option<PathBuf>) -> Result<(Vec<RgbImage>, Vec<usize>), std::io::Error> {
    let Some(path) = path else {
        let picture = |i: u32| RgbImage::from_fn(32, 32, |x, y| Rgb([8 * x as u8, 8 * y as u8, 10 * i as u8]));
        return Ok(((0..24).map(picture).collect(), (0..24).map(|i| i % 10).collect()));
    };
    let bytes = std::fs::read(path)?;
    // A label, then 32 rows of 32 red values, of green, of blue.
    let records = bytes.chunks_exact(3073).take(24);
    Ok(records
        .map(|record| {
            let pixels = &record[1..];
            let picture = RgbImage::from_fn(32, 32, |x, y| {
                let at = (32 * y + x) as usize;
                Rgb([pixels[at], pixels[1024 + at], pixels[2048 + at]])
            });
            (picture, usize::from(record[0]))
        })
        .unzip())
}

fn figures(images: &[RgbImage], labels: &[usize]) -> Result<Vec<(&'static str, Figure)>, PlotError> {
    let names: Vec<&str> = labels.iter().map(|label| CLASSES[label % 10]).collect();
    let right: Vec<bool> = (0..images.len()).map(|i| i % 3 != 1).collect();
    let said: Vec<String> = names
        .iter()
        .zip(&right)
        .enumerate()
        .map(|(i, (name, right))| {
            if *right {
                format!("{name} {} %", 99 - i)
            } else {
                format!("{} {} %\ntrue: {name}", CLASSES[i % 10], 40 + i)
            }
        })
        .collect();
    let verdicts = Gallery::new(images.to_vec()).title("What the network says").labels(&said).correct(&right);
    let epochs = |end: f64, start: f64, rate: f64| -> Vec<(f64, f64)> {
        (1..=20).map(|e| (f64::from(e), end + (start - end) * (-rate * f64::from(e)).exp())).collect()
    };
    let counts: Vec<Vec<u64>> = (0..10_u64)
        .map(|t| (0..10_u64).map(|p| if t == p { 880 - 40 * (t % 7) } else { (7 * t + 13 * p) % 50 }).collect())
        .collect();
    let hundred: Vec<Vec<u64>> = (0..100_u64)
        .map(|t| {
            (0..100_u64).map(|p| if t == p { 60 + t % 30 } else { u64::from((3 * t + 7 * p) % 19 == 0) }).collect()
        })
        .collect();
    let hundred_names: Vec<String> = (0..100).map(|i| format!("class {i}")).collect();
    let weights = || (0..864).map(|i| ((f64::from(i) * 12.9898).sin() * 43758.5453).fract() * 0.192);
    let histogram = |name: &str| Histogram::new(weights()).title(name.to_string()).x_label("weight");
    // Surer than right, as trained networks are; no image has a confidence below 20 %.
    let bins: Vec<ReliabilityBin> = (0..10)
        .map(|i| {
            let (from, images) = (f64::from(i) / 10.0, if i < 2 { 0 } else { 40 * i * i } as usize);
            let (confidence, accuracy) =
                if images > 0 { (from + 0.06, 0.8 * from + 0.05) } else { (f64::NAN, f64::NAN) };
            ReliabilityBin { from, to: from + 0.1, images, confidence, accuracy }
        })
        .collect();
    let large = image::imageops::resize(&images[0], 128, 128, image::imageops::FilterType::Triangle);
    let waves = |map: i32| (0..15 * 15).map(move |i| f64::from((i % 15 - 7) * map + i / 15).sin() * f64::from(map));
    let accuracies: Vec<f64> = (0..10).map(|t| (880 - 40 * (t % 7)) as f64 / 1000.0).collect();
    let range_test = (0..600).map(|i| {
        let rate = 1e-5 * 10f64.powf(f64::from(i) / 120.0);
        (
            rate,
            2.3 - 0.9 * rate / (rate + 0.01) + 30.0 * (rate - 0.15).max(0.0) + 0.05 * f64::from(i * 37 % 11 - 5) / 5.0,
        )
    });
    let noisy = |phase: i32| {
        (0..1563).map(move |i| {
            (f64::from(i), 0.9 + 1.4 * (-f64::from(i) / 300.0).exp() + 0.1 * f64::from(i * 31 % 23 + phase) / 23.0)
        })
    };
    Ok(vec![
        ("gallery", charts::gallery(images, &names, 8)?),
        ("gallery_plain", Gallery::new(images[..6].to_vec()).title("Six training images").columns(6).draw()?),
        ("gallery_verdicts", verdicts.columns(8).draw()?),
        (
            "loss_and_accuracy",
            charts::loss_and_accuracy(&LossAndAccuracy {
                data: "invented".into(),
                train_loss: epochs(0.25, 1.7, 0.13),
                test_loss: epochs(0.76, 1.4, 0.3),
                train_accuracy: epochs(0.95, 0.38, 0.14),
                test_accuracy: epochs(0.77, 0.5, 0.35),
            })?,
        ),
        (
            "one_epoch",
            charts::loss_and_accuracy(&LossAndAccuracy {
                data: "invented".into(),
                train_loss: vec![(1.0, 1.43)],
                test_loss: vec![(1.0, f64::NAN)],
                train_accuracy: vec![(1.0, 0.49)],
                test_accuracy: vec![(1.0, 0.58)],
            })?,
        ),
        (
            "range_test",
            Curves::new("Learning-rate range test")
                .x_label("learning rate")
                .y_label("loss (nats)")
                .x_scale(Scale::Log)
                .series(Series::new("training loss", range_test))
                .draw()?,
        ),
        (
            "many_curves",
            (0..9)
                .fold(Curves::new("Nine runs of the sweep"), |curves, run| {
                    let name = format!("learning rate {}, batch {}", 0.001 * f64::from(run + 1), 32 << (run % 3));
                    curves.series(Series::new(name, epochs(0.6 + 0.05 * f64::from(run), 2.0, 0.2)))
                })
                .x_label("epoch")
                .y_label("test loss (nats)")
                .y_scale(Scale::Log)
                .draw()?,
        ),
        (
            "running_loss",
            Curves::new("Running loss")
                .x_label("batch")
                .y_label("loss (nats)")
                .series(Series::new("epoch 1", noisy(0)))
                .series(Series::new("epoch 2", noisy(9).map(|(x, y)| (x, 0.6 * y))))
                .draw()?,
        ),
        ("confusion", charts::confusion_matrix("Confusion matrix", &counts, &CLASSES)?),
        (
            "confusion_2",
            charts::confusion_matrix("Confusion matrix", &[vec![90, 10], vec![30, 12_345]], &["a cat", "no cat"])?,
        ),
        (
            "confusion_unclassified",
            charts::confusion_matrix_with_unclassified("Confusion matrix", &counts, &[7; 10], &CLASSES)?,
        ),
        ("confusion_100", charts::confusion_matrix("Confusion matrix", &hundred, &hundred_names)?),
        (
            "bars",
            Bars::new("Accuracy by class", &CLASSES, &accuracies)
                .value_label("share of the class's test images")
                .percent()
                .reference(0.786, "all classes")
                .draw()?,
        ),
        (
            "gains",
            Bars::new(
                "What leaving an ingredient out costs",
                &["flip", "crop", "label smoothing", "one-cycle"],
                &[1.4, 2.05, -0.2, 3.8],
            )
            .value_label("points of test accuracy")
            .draw()?,
        ),
        ("histogram", histogram("conv1.weight").draw()?),
        (
            "histogram_overlaid",
            Histogram::overlaid(
                [("before", 1.0), ("after", 1.6)].map(|(name, factor)| (name, weights().map(move |w| factor * w))),
            )
            .title("conv1.weight before and after training")
            .x_label("weight")
            .draw()?,
        ),
        ("reliability", charts::reliability_diagram("Calibration", &bins, &["All numbers are made up.".to_string()])?),
        (
            "heat_maps",
            HeatMaps::new((15, 15), (1..=12).flat_map(waves).collect())
                .title("Twelve feature maps")
                .columns(6)
                .draw()?,
        ),
        (
            "picture_with_bars",
            charts::picture_with_bars(
                "What the network says",
                &[(&large, "the picture".to_string()), (&images[0], "as it sees it".to_string())],
                &CLASSES[..4],
                &[0.81, 0.12, 0.05, 0.02],
            )?,
        ),
        (
            "side_by_side",
            Figure::grid(
                &[
                    histogram("before").draw()?,
                    histogram("after").bins(12).draw()?,
                    charts::gallery(&images[..3], &names[..3], 3)?,
                ],
                2,
            )?,
        ),
    ])
}
