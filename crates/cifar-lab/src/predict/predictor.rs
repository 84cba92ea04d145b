//! A network with everything needed to classify pictures.

use candle_cnn::parameters::Parameters;
use candle_core::{D, DType, Device, Tensor};
use candle_nn::ModuleT;
use image::{DynamicImage, RgbImage};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::prediction::{PicturePrediction, PicturePredictions, Refused, fitted};
use crate::checkpoint::{ModelCard, load_tensors};
use crate::device::between_steps;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::Net;
use crate::picture;

/// Pictures per forward pass.
const BATCH: usize = 64;

/// A trained network with its normalization and class names; classifies pictures. A clone shares the network.
///
/// ```
/// use candle_core::Device;
/// use cifar_lab::{checkpoint::ModelCard, dataset::Cifar10, loader::DataLoader, model::Net, predict::Predictor};
///
/// let data = Cifar10::stand_in(0, 10, 10);
/// let net = Net::new(&Default::default(), candle_cnn::parameters::Parameters::new(0).var_builder(&Device::Cpu))?;
/// let card = ModelCard::new(&DataLoader::new(&data.test, &Device::Cpu));
/// let predictor = Predictor::new(net, &card, &Device::Cpu)?;
/// let prediction = predictor.predict(&data.test.image(0)?)?;
/// assert_eq!(prediction.classes().len(), 10);
/// assert!(prediction.with_name("a test image").to_string().starts_with("a test image: "));
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
#[derive(Clone)]
pub struct Predictor {
    network: Arc<dyn ModuleT + Send + Sync>,
    card: ModelCard,
    device: Device,
}

/// A picture being prepared for the network.
struct Prepared {
    name: String,
    /// The part of the picture that is used, at display size: 64 photos at their own would take gigabytes.
    shown: RgbImage,
    /// The same, resized to the network's input size.
    input: RgbImage,
}

impl Predictor {
    /// Takes any network with its parameters on `device`, described by `card`. A black image tests that the two match.
    ///
    /// # Errors
    /// [`Error::ModelCard`] if the card contradicts itself or has a different number of classes than the network;
    /// candle's error if the network doesn't accept images of the card's shape.
    pub fn new(network: impl ModuleT + Send + Sync + 'static, card: &ModelCard, device: &Device) -> Result<Self> {
        Self::checked(Arc::new(network), card.clone(), device).map_err(|wrong| match wrong {
            Wrong::Card(reason) => Error::ModelCard { path: PathBuf::from("given to Predictor::new"), reason },
            Wrong::Other(error) => error,
        })
    }

    /// Rebuilds the network in the `.pth` or `.safetensors` file at `path` from its card, on `device`. The format is
    /// detected from the file's first bytes.
    ///
    /// # Errors
    /// Those of [`ModelCard::read`] and [`load_pth`](crate::checkpoint::load_pth), and [`Error::ModelCard`] if the card
    /// doesn't describe the network.
    pub fn from_file(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let path = path.as_ref();
        let wrong = |reason: String| Error::ModelCard { path: path.to_path_buf(), reason };
        let card = ModelCard::read(path)?;
        let Some(config) = &card.network else {
            return Err(wrong(
                "it does not describe the network, so build that yourself, load the weights with load_pth or \
                 load_safetensors, and pass both to Predictor::new with ModelCard::read"
                    .into(),
            ));
        };
        let tensors = load_tensors(path)?;
        // A card from an unknown source must not make us allocate more than the weights need.
        let (asked, held) =
            (config.parameter_count(), tensors.values().map(|tensor| tensor.elem_count() as u128).sum());
        if asked > held {
            return Err(wrong(format!(
                "the network it describes has {asked} parameters, but the file has {held} numbers"
            )));
        }
        let parameters = Parameters::new(0);
        let network = Net::new(config, parameters.var_builder(device))?;
        parameters.load_state_dict(&tensors)?;
        Self::checked(Arc::new(network), card.clone(), device).map_err(|error| match error {
            Wrong::Card(reason) => wrong(reason),
            Wrong::Other(error) => error,
        })
    }

    fn checked(network: Arc<dyn ModuleT + Send + Sync>, card: ModelCard, device: &Device) -> Result<Self, Wrong> {
        card.check().map_err(Wrong::Card)?;
        let (channels, height, width) = card.image_shape;
        let outputs = || -> candle_core::Result<Vec<usize>> {
            let black = Tensor::zeros((1, channels, height, width), DType::F32, device)?;
            Ok(network.forward_t(&black, false)?.dims().to_vec())
        };
        let outputs = outputs().map_err(|error| Wrong::Other(error.into()))?;
        if outputs != [1, card.class_names.len()] {
            let names = card.class_names.len();
            return Err(Wrong::Card(format!(
                "it names {names} classes, but for one picture the network outputs {outputs:?}"
            )));
        }
        Ok(Self { network, card, device: device.clone() })
    }

    /// The network's card.
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// Classifies a picture: an [`image::DynamicImage`], an `RgbImage` or another type of that crate.
    ///
    /// The picture is center-cropped to the network's aspect ratio (a square for 32×32), so nothing is distorted;
    /// transparent areas become white, 16-bit channels 8-bit, and gray RGB. Then it is resized with the Catmull-Rom
    /// cubic filter, which is widened for downscaling, so that fine patterns become their mean. Pillow calls this
    /// bicubic.
    ///
    /// # Errors
    /// [`Error::Picture`] for a picture without pixels, candle's error if the network fails.
    pub fn predict(&self, picture: &(impl Clone + Into<DynamicImage>)) -> Result<PicturePrediction> {
        self.one(self.prepare("a picture".into(), &picture.clone().into())?)
    }

    /// Like [`predict`](Self::predict), for the JPEG or PNG at `path`, which is first rotated according to its Exif
    /// data.
    ///
    /// # Errors
    /// [`Error::Picture`] if it can't be read, is neither JPEG nor PNG, is damaged, or would take more than 512 MiB of
    /// memory.
    pub fn predict_file(&self, path: impl AsRef<Path>) -> Result<PicturePrediction> {
        self.one(self.open(path.as_ref())?)
    }

    /// Classifies every picture in the folder at `path` (by file extension, without subfolders), in the order of their
    /// names. Refused files don't stop the others: see [`PicturePredictions::refused`].
    ///
    /// # Errors
    /// [`Error::File`] if the folder can't be read, candle's error if the network fails.
    pub fn predict_folder(&self, path: impl AsRef<Path>) -> Result<PicturePredictions> {
        let folder = path.as_ref();
        let failed = |source| Error::File { action: "reading the folder", path: folder.to_path_buf(), source };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            // A broken link is refused by name, not skipped.
            if picture::has_ending(&path) && !path.is_dir() {
                files.push(path);
            }
        }
        files.sort();
        self.predict_files(&files)
    }

    /// Like [`predict_folder`](Self::predict_folder), for these files, in this order.
    ///
    /// # Errors
    /// candle's error if the network fails.
    pub fn predict_files(&self, files: &[impl AsRef<Path>]) -> Result<PicturePredictions> {
        let mut all = PicturePredictions::default();
        for files in files.chunks(BATCH) {
            let mut prepared = Vec::with_capacity(files.len());
            for file in files {
                if interrupt::is_requested() {
                    return Err(Error::Interrupted("not all pictures were looked at; run the cell again".into()));
                }
                match self.open(file.as_ref()) {
                    Ok(picture) => prepared.push(picture),
                    Err(Error::Picture(reason)) => all.refused.push(Refused { name: name(file.as_ref()), reason }),
                    Err(error) => return Err(error),
                }
            }
            all.predictions.extend(self.run(prepared)?);
        }
        Ok(all)
    }

    fn open(&self, path: &Path) -> Result<Prepared> {
        self.prepare(name(path), &picture::open(path)?)
    }

    fn prepare(&self, name: String, picture: &DynamicImage) -> Result<Prepared> {
        let (_, height, width) = self.card.image_shape;
        let (width, height) = (width as u32, height as u32);
        let middle = picture::middle(picture, width, height)?;
        let input = picture::resize(&middle, width, height);
        Ok(Prepared { name, shown: fitted(&middle), input })
    }

    fn one(&self, picture: Prepared) -> Result<PicturePrediction> {
        // One prediction comes out for each picture.
        self.run(vec![picture])?.pop().ok_or_else(|| Error::Candle(candle_core::Error::Msg("no output".into())))
    }

    fn run(&self, pictures: Vec<Prepared>) -> Result<Vec<PicturePrediction>> {
        if pictures.is_empty() {
            return Ok(Vec::new());
        }
        let (channels, height, width) = self.card.image_shape;
        let bytes = pictures.iter().flat_map(|picture| picture::planes(&picture.input, channels));
        let values: Vec<f32> = bytes.map(|byte| f32::from(byte) / 255.0).collect();
        let images = Tensor::from_vec(values, (pictures.len(), channels, height, width), &self.device)?;
        let images = self.card.normalize.apply(&images)?;
        let logits = between_steps(&self.device, || self.network.forward_t(&images, false))?;
        let logits = logits.detach().to_dtype(DType::F32)?;
        let probabilities = candle_nn::ops::softmax(&logits, D::Minus1)?.to_vec2::<f32>()?;
        let of = |(picture, row): (Prepared, Vec<f32>)| {
            PicturePrediction::new(picture.name, picture.shown, picture.input, &self.card.class_names, &row)
        };
        Ok(pictures.into_iter().zip(probabilities).map(of).collect())
    }
}

/// Why a card and a network don't match.
enum Wrong {
    Card(String),
    Other(Error),
}

impl std::fmt::Debug for Predictor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Predictor({} classes, {})", self.card.class_names.len(), self.card.data)
    }
}

/// A file's name without its folder.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
