//! A weights file's card: without it nobody knows which output is the cat.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

use super::file::{Format, read_metadata, weights_format, write};
use crate::dataset::CIFAR10_CLASSES;
use crate::error::{Error, Result};
use crate::loader::DataLoader;
use crate::model::NetConfig;
use crate::transform::Normalize;

/// The card's key in the metadata of a safetensors file.
pub(super) const METADATA_KEY: &str = "model_card";

/// The description of a network, with everything that [`Predictor`](crate::predict::Predictor) needs besides the
/// weights: a very short form of Mitchell et al., "Model Cards for Model Reporting", 2019.
///
/// [`save_safetensors`](super::save_safetensors) writes it into the file's metadata, as JSON under `model_card`;
/// [`save_pth`](super::save_pth) writes it into a JSON file beside the weights, `redneuronal.json` for
/// `redneuronal.pth`. Fields omitted from the JSON have the values of [`Default`], those of the original notebook.
///
/// ```
/// use cifar_lab::prelude::*;
///
/// let loader = DataLoader::new(&Cifar10::stand_in(0, 10, 10).test, &Device::Cpu).normalize(&Normalize::default());
/// let card = ModelCard {
///     network: Some(NetConfig::default()),
///     accuracy: Some(0.757),
///     settings: json!({ "epochs": 20, "learning_rate": 1e-3 }),
///     ..ModelCard::new(&loader)
/// };
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("redneuronal.pth");
/// save_pth(&Parameters::new(0), &path, &card)?;
/// assert!(folder.path().join("redneuronal.json").exists());
/// assert_eq!(ModelCard::read(&path)?, card);
/// assert_eq!((card.class_names.len(), &card.normalize.mean[..]), (10, &[0.5; 3][..]));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelCard {
    /// The name of each class, in the order of the network's outputs.
    pub class_names: Vec<String>,
    /// Channels, height and width of the images.
    pub image_shape: (usize, usize, usize),
    /// The images' normalization, from values in [0, 1].
    pub normalize: Normalize,
    /// The sizes from which to rebuild the network, if it is a [`Net`](crate::model::Net) or has the same layers under
    /// the same names.
    pub network: Option<NetConfig>,
    /// The [name](crate::dataset::Dataset::name) of the data set trained on.
    pub data: String,
    /// The accuracy on its test images, in [0, 1].
    pub accuracy: Option<f64>,
    /// The training settings; any JSON.
    pub settings: Value,
    /// The version of this crate that wrote it.
    pub version: String,
}

impl Default for ModelCard {
    /// The original notebook's: CIFAR-10's classes, mean and standard deviation 0.5, and its network.
    fn default() -> Self {
        Self {
            class_names: CIFAR10_CLASSES.map(String::from).to_vec(),
            image_shape: (3, 32, 32),
            normalize: Normalize::default(),
            network: Some(NetConfig::default()),
            data: "CIFAR-10".into(),
            accuracy: None,
            settings: Value::Null,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

impl ModelCard {
    /// The card of a network that was trained on `loader`'s images, with its classes, image shape, normalization and
    /// data set.
    pub fn new(loader: &DataLoader) -> Self {
        let dataset = loader.dataset();
        Self {
            class_names: dataset.class_names().to_vec(),
            image_shape: dataset.image_shape(),
            normalize: loader.normalization(),
            network: None,
            data: dataset.name().to_string(),
            ..Self::default()
        }
    }

    /// Reads the card of the weights at `path`: from the metadata of a `.safetensors`, from the JSON beside a `.pth`.
    ///
    /// # Errors
    /// [`Error::File`] if a file can't be read, [`Error::Weights`] for a damaged one, and [`Error::ModelCard`] if there
    /// is no card, or an invalid one.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (at, json) = match weights_format(path)? {
            Format::Safetensors => {
                let metadata = read_metadata(path)?;
                (path.to_path_buf(), metadata.get(METADATA_KEY).cloned())
            }
            Format::Pth => {
                let at = Self::beside(path);
                match std::fs::read_to_string(&at) {
                    Ok(json) => (at, Some(json)),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => (at, None),
                    Err(source) => return Err(Error::File { action: "reading", path: at, source }),
                }
            }
        };
        let wrong = |reason: String| Error::ModelCard { path: at.clone(), reason };
        let json = json.ok_or_else(|| {
            wrong(
                "it is missing, so the normalization and the class names are unknown. Save the weights with a \
                 ModelCard; or, for a .pth of the original's network, write a .json file beside it that holds {}"
                    .into(),
            )
        })?;
        let card: Self = serde_json::from_str(&json).map_err(|error| wrong(error.to_string()))?;
        card.check().map_err(wrong)?;
        Ok(card)
    }

    /// Checks that its parts fit together.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (channels, height, width) = self.image_shape;
        let classes = self.class_names.len();
        if !matches!(channels, 1 | 3) || height == 0 || width == 0 {
            let shape = self.image_shape;
            return Err(format!("images of shape {shape:?}: they need 1 channel (gray) or 3, and at least one pixel"));
        }
        if classes == 0 {
            return Err("it has no class names".into());
        }
        self.normalize.check(channels).map_err(|error| error.to_string())?;
        match &self.network {
            Some(net)
                if (net.classes, net.in_channels) != (classes, channels)
                    || (net.image_size, net.image_size) != (height, width) =>
            {
                Err(format!(
                    "its network takes images of {0}×{1}×{1} and has {2} classes, but it names {classes} classes of \
                     {channels}×{height}×{width}",
                    net.in_channels, net.image_size, net.classes
                ))
            }
            _ => Ok(()),
        }
    }

    /// The path of the JSON file for the `.pth` at `path`.
    pub(super) fn beside(path: &Path) -> PathBuf {
        path.with_extension("json")
    }

    pub(super) fn to_json(&self) -> Result<String> {
        // JSON has no NaN or infinity; serde_json writes null for them.
        serde_json::to_string_pretty(self)
            .map_err(|error| Error::ModelCard { path: PathBuf::from(METADATA_KEY), reason: error.to_string() })
    }

    /// Writes the card beside the `.pth` at `path`.
    pub(super) fn write_beside(&self, path: &Path) -> Result<()> {
        write(&Self::beside(path), (self.to_json()? + "\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn omitted_fields_are_the_original_s() {
        let card: ModelCard = serde_json::from_str("{}").unwrap();
        assert_eq!(card, ModelCard::default());
        let card: ModelCard = serde_json::from_str(r#"{"accuracy": 0.7, "network": {"dense": [64]}}"#).unwrap();
        assert_eq!((card.accuracy, card.network.unwrap().dense), (Some(0.7), vec![64]));
    }

    #[test]
    fn parts_that_do_not_fit_together_are_named() {
        let wrong = |change: fn(&mut ModelCard)| {
            let mut card = ModelCard::default();
            change(&mut card);
            card.check().unwrap_err()
        };
        assert!(wrong(|card| card.class_names.truncate(9)).contains("names 9 classes"));
        assert!(wrong(|card| card.class_names.clear()).contains("no class names"));
        assert!(wrong(|card| card.image_shape = (4, 32, 32)).contains("(4, 32, 32)"));
        assert!(wrong(|card| card.image_shape = (3, 64, 32)).contains("3×64×32"));
        assert!(wrong(|card| card.normalize.std[1] = 0.0).contains("standard deviation 0"));
        assert!(ModelCard::default().check().is_ok());
    }
}
