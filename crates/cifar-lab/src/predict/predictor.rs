//! A network with all that it takes to ask it.

use candle_cnn::parameters::Parameters;
use candle_core::{D, DType, Device, Tensor};
use candle_nn::ModuleT;
use image::{DynamicImage, RgbImage};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::prediction::{PicturePrediction, PicturePredictions, Refused};
use crate::checkpoint::{ModelCard, load_tensors};
use crate::error::{Error, Result};
use crate::model::Net;
use crate::picture;

/// Pictures that go through the network at once.
const BATCH: usize = 64;

/// A network with its weights, its normalisation and the names of its classes: says what is on a picture. A clone shares
/// the network.
///
/// ```
/// use candle_core::Device;
/// use cifar_lab::{checkpoint::ModelCard, dataset::Cifar10, loader::DataLoader, model::Net, predict::Predictor};
///
/// let data = Cifar10::stand_in(0, 10, 10);
/// let net = Net::new(&Default::default(), candle_cnn::parameters::Parameters::new(0).var_builder(&Device::Cpu))?;
/// let card = ModelCard::new(&DataLoader::new(&data.test, &Device::Cpu));
/// let predictor = Predictor::new(net, &card, &Device::Cpu)?;
/// let prediction = predictor.predict(data.test.image(0)?)?;
/// println!("{prediction}");
/// assert_eq!(prediction.classes().len(), 10);
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
#[derive(Clone)]
pub struct Predictor {
    network: Arc<dyn ModuleT + Send + Sync>,
    card: ModelCard,
    device: Device,
}

/// A picture on its way to the network.
struct Prepared {
    name: String,
    /// What of the picture is looked at, in its own size.
    middle: RgbImage,
    /// The same in the network's size.
    input: RgbImage,
}

impl Predictor {
    /// A network of any kind whose parameters lie on `device`, with what `card` says of it. A dry run on a black picture
    /// shows whether the two fit.
    ///
    /// # Errors
    /// [`Error::ModelCard`] where the card contradicts itself or names another number of classes than the network has;
    /// candle's error where the network does not take pictures of the card's shape.
    pub fn new(network: impl ModuleT + Send + Sync + 'static, card: &ModelCard, device: &Device) -> Result<Self> {
        Self::checked(Arc::new(network), card.clone(), device).map_err(|wrong| match wrong {
            Wrong::Card(reason) => Error::ModelCard { path: PathBuf::from("given to Predictor::new"), reason },
            Wrong::Other(error) => error,
        })
    }

    /// The network in the `.pth` or `.safetensors` at `path`, built again as its card says, on `device`. The file's
    /// format is told by its first bytes.
    ///
    /// ```
    /// use candle_core::Device;
    /// use cifar_lab::{checkpoint::{ModelCard, save_pth}, model::Net, predict::Predictor};
    ///
    /// let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("redneuronal.pth");
    /// let parameters = candle_cnn::parameters::Parameters::new(0);
    /// Net::new(&Default::default(), parameters.var_builder(&Device::Cpu))?;
    /// save_pth(&parameters, &path, &ModelCard::default())?;
    /// let predictor = Predictor::from_file(&path, &Device::Cpu)?;
    /// assert_eq!(predictor.card().class_names[3], "cat");
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`ModelCard::read`] and [`load_pth`](crate::checkpoint::load_pth), and [`Error::ModelCard`] where the card does
    /// not say how the network is built.
    pub fn from_file(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let path = path.as_ref();
        let wrong = |reason: String| Error::ModelCard { path: path.to_path_buf(), reason };
        let card = ModelCard::read(path)?;
        let Some(config) = &card.network else {
            return Err(wrong(
                "it does not say how the network is built, so build it yourself: load the weights into it with \
                 load_pth or load_safetensors, and give it to Predictor::new with ModelCard::read"
                    .into(),
            ));
        };
        let tensors = load_tensors(path)?;
        // A card from anywhere must not make us ask for memory that the weights do not need.
        let (asked, held) =
            (config.parameter_count(), tensors.values().map(|tensor| tensor.elem_count() as u128).sum());
        if asked > held {
            return Err(wrong(format!("the network it describes has {asked} parameters, and the file {held} numbers")));
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
                "it names {names} classes, and for one picture the network gives {outputs:?}"
            )));
        }
        Ok(Self { network, card, device: device.clone() })
    }

    /// What is known of the network.
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// What the network says of a picture: an [`image::DynamicImage`], an `RgbImage` or another of that crate's.
    ///
    /// The picture's middle is cut out in the shape that the network takes (a square for 32×32), so that what stands in
    /// it keeps its proportions; what is transparent is laid on white; 16 bits become 8, and grey becomes
    /// red = green = blue. Then it is scaled with Catmull and Rom's cubic filter, which is widened where a picture
    /// shrinks, so that fine patterns become their mean. Pillow calls that bicubic.
    ///
    /// # Errors
    /// [`Error::Picture`] for a picture without pixels, candle's where the network fails.
    pub fn predict(&self, picture: impl Into<DynamicImage>) -> Result<PicturePrediction> {
        self.one(self.prepare("a picture".into(), &picture.into())?)
    }

    /// What the network says of the JPEG or PNG at `path`, which is first turned as its Exif data says; else as
    /// [`predict`](Self::predict).
    ///
    /// # Errors
    /// [`Error::Picture`] where it cannot be read, is no JPEG or PNG, is damaged, or would take more than 512 MiB.
    pub fn predict_file(&self, path: impl AsRef<Path>) -> Result<PicturePrediction> {
        self.one(self.open(path.as_ref())?)
    }

    /// What the network says of each picture in the folder at `path` (by the name's ending; not in folders inside it), in
    /// the order of their names. Files that are refused do not keep the others from being looked at: see
    /// [`PicturePredictions::refused`].
    ///
    /// # Errors
    /// [`Error::File`] where the folder cannot be read, candle's where the network fails.
    pub fn predict_folder(&self, path: impl AsRef<Path>) -> Result<PicturePredictions> {
        let folder = path.as_ref();
        let failed = |source| Error::File { action: "reading the folder", path: folder.to_path_buf(), source };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            // A link that leads nowhere is refused by name, not passed over.
            if picture::has_ending(&path) && !path.is_dir() {
                files.push(path);
            }
        }
        files.sort();
        self.predict_files(&files)
    }

    /// What the network says of each of these files, in this order; refused ones as in
    /// [`predict_folder`](Self::predict_folder).
    ///
    /// # Errors
    /// candle's, where the network fails.
    pub fn predict_files(&self, files: &[impl AsRef<Path>]) -> Result<PicturePredictions> {
        let mut all = PicturePredictions::default();
        for files in files.chunks(BATCH) {
            let mut prepared = Vec::with_capacity(files.len());
            for file in files {
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
        Ok(Prepared { name, middle, input })
    }

    fn one(&self, picture: Prepared) -> Result<PicturePrediction> {
        // As many come out as went in.
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
        let logits = self.network.forward_t(&images, false)?.detach().to_dtype(DType::F32)?;
        let probabilities = candle_nn::ops::softmax(&logits, D::Minus1)?.to_vec2::<f32>()?;
        let of = |(picture, row): (Prepared, Vec<f32>)| {
            PicturePrediction::new(picture.name, &picture.middle, picture.input, &self.card.class_names, &row)
        };
        Ok(pictures.into_iter().zip(probabilities).map(of).collect())
    }
}

/// Why a card and a network do not go together.
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
