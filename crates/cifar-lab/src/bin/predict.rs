//! `predict WEIGHTS PICTURE…`: what a saved network says of pictures, as a table. `cargo lab predict` starts it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cifar_lab::checkpoint::ModelCard;
use cifar_lab::device::choose_device;
use cifar_lab::error::Result;
use cifar_lab::predict::{PicturePrediction, PicturePredictions, Predictor};

const USAGE: &str = "\
usage: predict [--top K] [--device NAME] WEIGHTS PICTURE…

Says what the network saved in WEIGHTS (a .pth with its .json beside it, or a .safetensors) sees on each PICTURE, a JPEG
or PNG of any size, or a folder of such.

  --top K        how many classes to name for each picture (3)
  --device NAME  what to compute on: auto, cpu, cuda:0, … (auto)";

struct Arguments {
    top: usize,
    device: String,
    weights: PathBuf,
    pictures: Vec<PathBuf>,
}

impl Arguments {
    /// None where they make no sense.
    fn parse(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> Option<Self> {
        let (mut top, mut device, mut paths) = (3, "auto".to_string(), Vec::new());
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--top") => top = arguments.next()?.to_str()?.parse().ok().filter(|&top| top > 0)?,
                Some("--device") => device = arguments.next()?.into_string().ok()?,
                // What follows are paths, whatever they look like.
                Some("--") => paths.extend(arguments.by_ref().map(PathBuf::from)),
                Some(option) if option.starts_with("--") => return None,
                _ => paths.push(PathBuf::from(argument)),
            }
        }
        let mut paths = paths.into_iter();
        let weights = paths.next()?;
        let pictures: Vec<PathBuf> = paths.collect();
        (!pictures.is_empty()).then_some(Self { top, device, weights, pictures })
    }
}

fn main() -> ExitCode {
    let Some(arguments) = Arguments::parse(std::env::args_os().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match predict(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the table; whether something could be said of all pictures.
fn predict(arguments: &Arguments) -> Result<bool> {
    let predictor = Predictor::from_file(&arguments.weights, &choose_device(&arguments.device)?)?;
    let mut all: Vec<PicturePredictions> = Vec::new();
    let mut files: Vec<&Path> = Vec::new();
    for path in &arguments.pictures {
        if path.is_dir() {
            all.push(predictor.predict_files(&std::mem::take(&mut files))?);
            all.push(predictor.predict_folder(path)?);
        } else {
            files.push(path);
        }
    }
    all.push(predictor.predict_files(&files)?);
    let all: PicturePredictions = all.into_iter().collect();
    println!("{}", all.table(arguments.top).caption(caption(&arguments.weights, predictor.card())));
    for refused in all.refused() {
        eprintln!("{}", refused.reason);
    }
    let silent = |prediction: &&PicturePrediction| prediction.classes().is_empty();
    for prediction in all.predictions().iter().filter(silent) {
        eprintln!("{prediction}: are the weights those of a training that diverged?");
    }
    Ok(all.refused().is_empty() && !all.predictions().iter().any(|prediction| silent(&prediction)))
}

/// What the network is.
fn caption(weights: &Path, card: &ModelCard) -> String {
    let accuracy =
        card.accuracy.map_or(String::new(), |share| format!(", {:.1} % of its test images right", 100.0 * share));
    format!("{}, trained on {}{accuracy}", weights.display(), card.data)
}
