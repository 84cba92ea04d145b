//! `predict WEIGHTS PICTURE…`: classifies images with a saved network and prints a table. Started by `cargo lab
//! predict`.

mod options;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use cifar_lab::checkpoint::ModelCard;
use cifar_lab::device::choose_device;
use cifar_lab::error::Result;
use cifar_lab::predict::{PicturePrediction, PicturePredictions, Predictor};
use clap::Parser;
use options::Options;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    let Arguments { options } = Arguments::parse();
    match predict(&options, &mut std::io::stdout(), &mut std::io::stderr()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the table to `out` and problems to `err`; returns whether every picture got a prediction.
fn predict(options: &Options, out: &mut impl Write, err: &mut impl Write) -> Result<bool> {
    let predictor = Predictor::from_file(&options.weights, &choose_device(&options.device)?)?;
    let mut all: Vec<PicturePredictions> = Vec::new();
    let mut files: Vec<&Path> = Vec::new();
    for path in &options.pictures {
        if path.is_dir() {
            all.push(predictor.predict_files(&std::mem::take(&mut files))?);
            all.push(predictor.predict_folder(path)?);
        } else {
            files.push(path);
        }
    }
    all.push(predictor.predict_files(&files)?);
    let all: PicturePredictions = all.into_iter().collect();
    let table = all.table(options.top.get()).caption(caption(&options.weights, predictor.card()));
    // A closed pipe (`| head`) is not an error.
    let _ = writeln!(out, "{table}");
    for refused in all.refused() {
        let _ = writeln!(err, "{}", refused.reason);
    }
    let silent = |prediction: &&PicturePrediction| prediction.classes().is_empty();
    for prediction in all.predictions().iter().filter(silent) {
        let _ = writeln!(err, "{prediction}: did the training that saved these weights diverge?");
    }
    Ok(all.refused().is_empty() && !all.predictions().iter().any(|prediction| silent(&prediction)))
}

/// The weights' file, and what their model card says.
fn caption(weights: &Path, card: &ModelCard) -> String {
    let accuracy = card.accuracy.map_or(String::new(), |share| format!(", {:.1} % test accuracy", 100.0 * share));
    format!("{}, trained on {}{accuracy}", weights.display(), card.data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cifar_lab::candle_core::Device;
    use cifar_lab::checkpoint::save_pth;
    use cifar_lab::image::{Rgb, RgbImage};
    use cifar_lab::model::{Net, NetConfig};
    use cifar_lab::prelude::Parameters;

    /// Saves a network into `folder`, and two pictures into its folder `pictures`.
    fn save(folder: &Path, parameters: &Parameters, card: &ModelCard) {
        std::fs::create_dir(folder.join("pictures")).unwrap();
        save_pth(parameters, folder.join("net.pth"), card).unwrap();
        for (name, side) in [("tiny.png", 3), ("large.png", 70)] {
            let picture = RgbImage::from_pixel(side, side, Rgb([9, 90, 200]));
            picture.save(folder.join("pictures").join(name)).unwrap();
        }
    }

    fn parameters() -> Parameters {
        let parameters = Parameters::new(0);
        Net::new(&NetConfig::default(), parameters.var_builder(&Device::Cpu)).unwrap();
        parameters
    }

    /// Whether all pictures got a prediction, the table, and the problems.
    fn run(folder: &Path, arguments: &[&str]) -> Result<(bool, String, String)> {
        let paths = arguments.iter().map(|argument| match argument.starts_with("--") || argument.len() < 2 {
            true => argument.into(),
            false => folder.join(argument),
        });
        let Arguments { options } =
            Arguments::try_parse_from([Path::new("predict").into()].into_iter().chain(paths)).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let good = predict(&options, &mut out, &mut err)?;
        Ok((good, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap()))
    }

    #[test]
    fn a_table_of_all_pictures_and_the_problems() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), &parameters(), &ModelCard { accuracy: Some(0.757), ..ModelCard::default() });
        let (good, table, errors) = run(folder.path(), &["--top", "2", "net.pth", "pictures"]).unwrap();
        assert!(good && errors.is_empty(), "{errors}");
        assert!(table.contains("trained on CIFAR-10, 75.7 % test accuracy"), "{table}");
        // Caption, header and rule, then a line a picture.
        assert_eq!(table.lines().count(), 3 + 2, "{table}");
        std::fs::write(folder.path().join("pictures/bad.png"), "no picture").unwrap();
        let (good, table, errors) = run(folder.path(), &["net.pth", "pictures/bad.png", "pictures/tiny.png"]).unwrap();
        assert!(!good, "bad.png is no picture");
        assert!(
            table.contains("bad.png") && table.contains("tiny.png") && errors.contains("bad.png"),
            "{table}{errors}"
        );
        let error = run(folder.path(), &["pictures/bad.png", "pictures/bad.png"]).unwrap_err().to_string();
        assert!(error.contains("bad.png"), "{error}");
    }

    #[test]
    fn a_diverged_network_names_no_class() {
        let folder = tempfile::tempdir().unwrap();
        let parameters = parameters();
        let named = parameters.named();
        let (_, bias) = named.iter().find(|(name, _)| name == "fc2.bias").unwrap();
        bias.set(&(bias.zeros_like().unwrap() / 0.0).unwrap()).unwrap();
        save(folder.path(), &parameters, &ModelCard::default());
        let (good, table, errors) = run(folder.path(), &["net.pth", "pictures/tiny.png"]).unwrap();
        assert!(!good);
        assert!(table.contains("tiny.png  not a number") && !table.contains('%'), "{table}");
        let said = "tiny.png: the network's output is not a number (NaN or infinite): did the training that saved these weights \
                    diverge?\n";
        assert_eq!(errors, said);
    }

    #[test]
    fn weights_and_a_picture_are_needed() {
        for arguments in [&["predict", "net.pth"][..], &["predict", "--top", "0", "net.pth", "cat.jpg"]] {
            assert!(Arguments::try_parse_from(arguments).is_err(), "{arguments:?}");
        }
    }
}
