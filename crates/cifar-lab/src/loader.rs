//! Batches: shuffled, augmented, normalized, and prepared on a background thread while the network computes.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use candle_cnn::ops::{Placement, gather_images};
use candle_cnn::random::stream;
use candle_core::{Device, Tensor};
use rand::seq::SliceRandom;

use crate::dataset::{Dataset, DatasetError, Result};
use crate::error::panic_message;
use crate::interrupt;
use crate::transform::{Augment, Normalize};

/// The original's batch size.
const BATCH_SIZE: usize = 32;
/// Two batches ready and one in preparation: enough to smooth out a slow one, with memory for three.
const PREFETCH: usize = 2;

/// A batch of images on the training device.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The images, f32 [B, C, H, W], normalized if the loader normalizes, else in [0, 1].
    pub images: Tensor,
    /// Their classes, u32 `[B]`.
    pub labels: Tensor,
    /// Their indices in the data set.
    pub indices: Vec<usize>,
}

/// A [`DataLoader`]'s settings.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderConfig {
    /// The number of images in a batch; an epoch's last batch may have fewer.
    pub batch_size: usize,
    /// Whether each epoch is shuffled anew.
    pub shuffle: bool,
    /// The seed of the order and of the random changes.
    pub seed: u64,
    /// Whether an epoch's last batch is left out if it is not full.
    pub drop_last: bool,
    /// The normalization, if there is one.
    pub normalize: Option<Normalize>,
    /// The random changes of each image, in this order.
    pub augment: Vec<Augment>,
}

impl Default for LoaderConfig {
    /// Batches of 32, in the data set's order, with values in [0, 1].
    fn default() -> Self {
        Self { batch_size: BATCH_SIZE, shuffle: false, seed: 0, drop_last: false, normalize: None, augment: Vec::new() }
    }
}

/// Serves the images of a data set in batches, epoch after epoch.
///
/// On an NVIDIA GPU the images are copied into its memory once, as bytes, and batches are made there, with the same
/// values as on the CPU. If they would take more than a quarter of its free memory, batches are copied one by one.
///
/// A loader holds a [`LoaderConfig`] and a shared handle on the data: it is cheap to clone, and each epoch is an iterator
/// of its own. Each setting has a method that returns a changed loader and leaves the original as it is. The same seed
/// gives the same batches in each epoch, wherever the epoch begins.
///
/// ```
/// use cifar_lab::prelude::*;
///
/// let data = Cifar10::stand_in(0, 100, 10);
/// let plain = DataLoader::new(&data.train, &Device::Cpu).batch_size(40);
/// let loader = plain
///     .shuffle(7)
///     .augment(RandomHorizontalFlip { p: 0.5 })
///     .augment(RandomCrop { padding: 4 })
///     .normalize(&Normalize::default());
/// assert_eq!((loader.len(), loader.drop_last(true).len()), (3, 2));
/// assert_eq!((loader.config().seed, plain.config().shuffle), (7, false));
/// for batch in loader.epoch(0) {
///     assert_eq!(batch?.images.dims()[1..], [3, 32, 32]);
/// }
/// let rest: Vec<Batch> = loader.epoch_from(0, 2).collect::<std::result::Result<_, _>>()?;
/// assert_eq!(rest[0].indices.len(), 20);
/// assert!(plain.batch_size(0).first_batch().is_err());
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
#[must_use = "its methods return a changed loader and leave the original as it is"]
pub struct DataLoader {
    dataset: Dataset,
    device: Device,
    config: LoaderConfig,
}

impl DataLoader {
    /// A loader of `dataset`'s images on `device`, with the settings of [`LoaderConfig::default`].
    pub fn new(dataset: &Dataset, device: &Device) -> Self {
        Self { dataset: dataset.clone(), device: device.clone(), config: LoaderConfig::default() }
    }

    fn with(&self, change: impl FnOnce(&mut LoaderConfig)) -> Self {
        let mut changed = self.clone();
        change(&mut changed.config);
        changed
    }

    /// Sets the number of images in a batch; an epoch's last batch may have fewer.
    pub fn batch_size(&self, batch_size: usize) -> Self {
        self.with(|config| config.batch_size = batch_size)
    }

    /// Shuffles each epoch anew, from this seed, which the random changes use too.
    pub fn shuffle(&self, seed: u64) -> Self {
        self.seed(seed).with(|config| config.shuffle = true)
    }

    /// Sets the seed of the random changes (and of the order, if shuffled); 0 by default.
    pub fn seed(&self, seed: u64) -> Self {
        self.with(|config| config.seed = seed)
    }

    /// Sets whether to leave out an epoch's last batch if it is not full.
    pub fn drop_last(&self, drop_last: bool) -> Self {
        self.with(|config| config.drop_last = drop_last)
    }

    /// Normalizes the images.
    pub fn normalize(&self, normalize: &Normalize) -> Self {
        self.with(|config| config.normalize = Some(normalize.clone()))
    }

    /// Adds a random change of each image, such as a [`RandomHorizontalFlip`](crate::transform::RandomHorizontalFlip) or a
    /// [`RandomCrop`](crate::transform::RandomCrop) (see [`Augment`]); changes apply in the order in which they are added.
    pub fn augment(&self, augment: impl Into<Augment>) -> Self {
        self.with(|config| config.augment.push(augment.into()))
    }

    /// The settings.
    pub fn config(&self) -> &LoaderConfig {
        &self.config
    }

    /// The normalization; without one, mean 0 and standard deviation 1, which change nothing.
    pub fn normalization(&self) -> Normalize {
        let channels = self.dataset.image_shape().0;
        let none = || Normalize { mean: vec![0.0; channels], std: vec![1.0; channels] };
        self.config.normalize.clone().unwrap_or_else(none)
    }

    /// The number of batches in an epoch; 0 for batch size 0, which [`check`](Self::check) reports as an error.
    pub fn len(&self) -> usize {
        match (self.config.batch_size, self.config.drop_last) {
            (0, _) => 0,
            (size, true) => self.dataset.len() / size,
            (size, false) => self.dataset.len().div_ceil(size),
        }
    }

    /// Whether an epoch has no batches.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The data set.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// The device of the batches.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Checks the settings. An epoch checks them first, and yields an error as its only item.
    ///
    /// # Errors
    /// If the batch size is 0, or the normalization or a random change doesn't fit the images.
    pub fn check(&self) -> Result<()> {
        if self.config.batch_size == 0 {
            return Err(DatasetError::BatchSize);
        }
        let shape = self.dataset.image_shape();
        if let Some(normalize) = &self.config.normalize {
            normalize.check(shape.0)?;
        }
        self.config.augment.iter().try_for_each(|augment| augment.check(shape))
    }

    /// The first batch of the first epoch, to look at or to try a network on.
    ///
    /// # Errors
    /// Like [`epoch`](Self::epoch)'s first item; [`DatasetError::Count`] if an epoch has no batch.
    pub fn first_batch(&self) -> Result<Batch> {
        let too_few = DatasetError::Count { asked: self.config.batch_size, length: self.dataset.len() };
        self.epoch(0).next().unwrap_or(Err(too_few))
    }

    /// The batches of one epoch. Its number, from 0, decides the order and the random changes.
    pub fn epoch(&self, epoch: usize) -> Epoch {
        self.epoch_from(epoch, 0)
    }

    /// The batches of one epoch from `first_batch` on, the same as in the whole epoch: to resume after a stop.
    pub fn epoch_from(&self, epoch: usize, first_batch: usize) -> Epoch {
        let (remaining, state) = match self.begin(epoch, first_batch) {
            Ok(state) => (self.len() - first_batch, state),
            Err(error) => (1, State::Failed(Some(error))),
        };
        Epoch { device: self.device.clone(), shape: self.dataset.image_shape(), remaining, state }
    }
}

impl DataLoader {
    fn begin(&self, epoch: usize, first_batch: usize) -> Result<State> {
        self.check()?;
        let batches = self.len();
        if first_batch > batches {
            return Err(DatasetError::FirstBatch { first: first_batch, batches });
        }
        if first_batch == batches {
            return Ok(State::Failed(None));
        }
        let preparation = Preparation::new(self, epoch);
        if let Some(pictures) = self.pictures_on_the_device() {
            return Ok(State::Stored(Stored::new(self, preparation, pictures, first_batch)?));
        }
        Ok(State::Thread(start(preparation, first_batch)?))
    }

    /// The data set's images on a GPU, to make batches there; `None` on the CPU, for a set that is too large, and for
    /// changes that [`Augment::place`] can't combine.
    fn pictures_on_the_device(&self) -> Option<Tensor> {
        let serves = self.device.is_cuda() && self.config.augment.iter().filter(|augment| augment.moves()).count() <= 1;
        serves.then(|| self.dataset.stored_pictures(&self.device)).flatten()
    }
}

impl fmt::Debug for DataLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (batches, size) = (self.len(), self.config.batch_size);
        write!(f, "DataLoader({}; {batches} batches of {size}", self.dataset)?;
        if self.config.shuffle {
            write!(f, ", shuffled with seed {}", self.config.seed)?;
        }
        for augment in &self.config.augment {
            write!(f, ", {}", augment.describe())?;
        }
        if let Some(Normalize { mean, std }) = &self.config.normalize {
            write!(f, ", normalized with mean {mean:?} and standard deviation {std:?}")?;
        }
        f.write_str(")")
    }
}

/// A batch before it becomes tensors.
struct Raw {
    values: Vec<f32>,
    labels: Vec<u32>,
    indices: Vec<usize>,
}

/// Everything needed to prepare an epoch's batches, without the loader.
struct Preparation {
    dataset: Dataset,
    order: Vec<usize>,
    batches: usize,
    batch_size: usize,
    augment: Arc<[Augment]>,
    seed: u64,
    epoch: u64,
    /// The value of each byte in each channel.
    tables: Vec<[f32; 256]>,
}

impl Preparation {
    fn new(loader: &DataLoader, epoch: usize) -> Self {
        let mut order: Vec<usize> = (0..loader.dataset.len()).collect();
        if loader.config.shuffle {
            order.shuffle(&mut stream(loader.config.seed, "shuffle", &[epoch as u64]));
        }
        Self {
            dataset: loader.dataset.clone(),
            order,
            batches: loader.len(),
            batch_size: loader.config.batch_size,
            augment: loader.config.augment.clone().into(),
            seed: loader.config.seed,
            epoch: epoch as u64,
            tables: loader.normalization().tables(),
        }
    }

    fn prepare(&self, batch: usize) -> Result<Raw> {
        let begin = batch * self.batch_size;
        let end = (begin + self.batch_size).min(self.order.len());
        let indices = self.order[begin..end].to_vec();
        let labels = self.dataset.subset(&indices)?.labels();
        let shape = self.dataset.image_shape();
        let mut values = Vec::with_capacity(indices.len() * self.dataset.image_length());
        self.each_picture(&indices, |picture| {
            for (plane, table) in picture.chunks_exact(shape.1 * shape.2).zip(&self.tables) {
                values.extend(plane.iter().map(|&byte| table[usize::from(byte)]));
            }
        })?;
        Ok(Raw { values, labels, indices })
    }

    /// Passes the bytes [C, H, W] of each of these images to `take`, with this epoch's random changes.
    fn each_picture(&self, indices: &[usize], mut take: impl FnMut(&[u8])) -> Result<()> {
        let mut changed = vec![0; self.dataset.image_length()];
        for &index in indices {
            let stored = self.dataset.pixels(index)?;
            if self.augment.is_empty() {
                take(stored);
                continue;
            }
            changed.copy_from_slice(stored);
            for (place, augment) in self.augment.iter().enumerate() {
                let key = [self.epoch, index as u64, place as u64];
                augment.apply(&mut changed, self.dataset.image_shape(), self.seed, key);
            }
            take(&changed);
        }
        Ok(())
    }
}

/// An epoch of images that are on the device: its random draws are copied there once, and each batch is then one
/// launch.
struct Stored {
    pictures: Tensor,
    /// For each sample from the first batch on: its place, i64 [n, 4]; its label, u32 `[n]`; its index in the set.
    places: Tensor,
    labels: Tensor,
    indices: Vec<usize>,
    /// The value of each byte, f32 [C, 256].
    table: Tensor,
    batch_size: usize,
    /// Samples served so far.
    given: usize,
}

impl Stored {
    fn new(loader: &DataLoader, preparation: Preparation, pictures: Tensor, first_batch: usize) -> Result<Self> {
        let Preparation { dataset, order, batches, batch_size, augment, seed, epoch, .. } = preparation;
        let end = (batches * batch_size).min(order.len());
        let indices = order[first_batch * batch_size..end].to_vec();
        let place = |&index: &usize| {
            let stored = Placement::new(dataset.stored(index)?);
            let keys = (0..).map(|place| [epoch, index as u64, place]);
            Ok(augment.iter().zip(keys).fold(stored, |placement, (augment, key)| augment.place(placement, seed, key)))
        };
        let places = indices.iter().map(place).collect::<Result<Vec<_>>>()?;
        let table = loader.normalization().tables();
        let device = &loader.device;
        Ok(Self {
            pictures,
            places: Placement::tensor(&places, device)?,
            labels: Tensor::new(dataset.subset(&indices)?.labels(), device)?,
            table: Tensor::from_vec(table.concat(), (table.len(), 256), device)?,
            indices,
            batch_size,
            given: 0,
        })
    }

    fn next_batch(&mut self) -> Result<Batch> {
        let (begin, count) = (self.given, self.batch_size.min(self.indices.len() - self.given));
        self.given += count;
        Ok(Batch {
            images: gather_images(&self.pictures, &self.places.narrow(0, begin, count)?, &self.table)?,
            labels: self.labels.narrow(0, begin, count)?,
            indices: self.indices[begin..begin + count].to_vec(),
        })
    }
}

/// A thread at work, and the batches it has ready.
struct Running {
    batches: Option<Receiver<Result<Raw>>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts preparing the batches from `first` on. The thread ends with the last one, or when nobody receives any more.
fn start(preparation: Preparation, first: usize) -> Result<Running> {
    // More slots than batches would only take memory.
    let (sender, receiver) = sync_channel(PREFETCH.min(preparation.batches.saturating_sub(first)));
    let work = move || {
        for batch in first..preparation.batches {
            // The training that waits for this batch must learn why it doesn't come.
            let raw = catch_unwind(AssertUnwindSafe(|| preparation.prepare(batch))).unwrap_or_else(|panic| {
                Err(DatasetError::Thread(format!("panicked at batch {batch}: {}", panic_message(&*panic))))
            });
            let failed = raw.is_err();
            if sender.send(raw).is_err() || failed {
                break;
            }
        }
    };
    let thread = thread::Builder::new().name("batches".into()).spawn(work);
    let thread = thread.map_err(|error| DatasetError::Thread(format!("couldn't start: {error}")))?;
    Ok(Running { batches: Some(receiver), thread: Some(thread) })
}

impl Drop for Running {
    fn drop(&mut self) {
        // Without a receiver the thread stops; this waits for one batch at most.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // Its panics were caught and passed on as errors.
            let _ = thread.join();
        }
    }
}

enum State {
    Thread(Running),
    Stored(Stored),
    /// Has its error to tell, if any, and nothing else.
    Failed(Option<DatasetError>),
}

/// The batches of one epoch, in order. An error ends it; dropping it stops the thread that prepares the batches.
pub struct Epoch {
    device: Device,
    /// An image's shape: (channels, height, width).
    shape: (usize, usize, usize),
    remaining: usize,
    state: State,
}

impl Epoch {
    /// Copies a batch to the device, on the thread that asks for it: candle's CUDA work belongs to the stream of the thread
    /// that started it.
    fn finish(&self, raw: Raw) -> Result<Batch> {
        let count = raw.indices.len();
        let (channels, height, width) = self.shape;
        let shape = (count, channels, height, width);
        let images = Tensor::from_vec(raw.values, shape, &self.device)?;
        let labels = Tensor::from_vec(raw.labels, count, &self.device)?;
        Ok(Batch { images, labels, indices: raw.indices })
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        let batch = match &mut self.state {
            _ if interrupt::is_requested() => Err(DatasetError::Interrupted(
                "the epoch's other batches were not read; run the cell again for all of them",
            )),
            State::Failed(error) => Err(error.take()?),
            State::Stored(stored) => stored.next_batch(),
            State::Thread(running) => {
                let raw = match running.batches.as_ref().map(Receiver::recv) {
                    Some(Ok(raw)) => raw,
                    _ => Err(DatasetError::Thread("stopped before the end of the epoch".into())),
                };
                raw.and_then(|raw| self.finish(raw))
            }
        };
        if batch.is_err() {
            self.remaining = 0;
        }
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for Epoch {}

impl std::iter::FusedIterator for Epoch {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Cifar10;
    use crate::transform::{AlternatingFlip, RandomCrop, RandomHorizontalFlip, RandomTranslation};

    fn loader() -> DataLoader {
        let data = Cifar10::stand_in(0, 12, 0).train;
        DataLoader::new(&data, &Device::Cpu).batch_size(5).shuffle(2)
    }

    #[test]
    fn a_panic_of_the_thread_becomes_an_error() {
        let mut preparation = Preparation::new(&loader(), 0);
        // A batch that the order does not hold.
        preparation.batches += 1;
        let state = State::Thread(start(preparation, 0).unwrap());
        let mut epoch = Epoch { device: Device::Cpu, shape: (3, 32, 32), remaining: 4, state };
        assert_eq!(epoch.by_ref().take(3).filter(|batch| batch.is_ok()).count(), 3);
        let error = epoch.next().unwrap().unwrap_err();
        assert!(matches!(&error, DatasetError::Thread(text) if text.contains("panicked at batch 3")), "{error}");
        assert!(epoch.next().is_none());
    }

    /// As on a GPU, with the CPU as the device; in every combination of settings the very values of the CPU's own way.
    #[test]
    fn batches_out_of_stored_pictures_are_the_same() {
        let (flip, crop) = (RandomHorizontalFlip { p: 0.5 }, RandomCrop { padding: 3 });
        let (turns, translation) = (AlternatingFlip, RandomTranslation { pixels: 3 });
        let changes: [Vec<Augment>; 8] = [
            vec![],
            vec![flip.into()],
            vec![crop.into()],
            vec![flip.into(), crop.into()],
            vec![crop.into(), flip.into()],
            vec![flip.into(), crop.into(), flip.into()],
            vec![turns.into(), translation.into()],
            vec![translation.into(), flip.into()],
        ];
        let data = Cifar10::stand_in(0, 30, 0).train.subset(&(0..30).rev().step_by(2).collect::<Vec<_>>()).unwrap();
        let pictures = data.stored_pictures(&Device::Cpu).unwrap();
        assert_eq!(pictures.dims(), [30, 3, 32, 32]);
        let mut differ = 0;
        for (changes, settings) in changes.iter().flat_map(|changes| (0..8).map(move |settings| (changes, settings))) {
            let mut loader = DataLoader::new(&data, &Device::Cpu).batch_size(4).seed(5).drop_last(settings & 1 > 0);
            if settings & 2 > 0 {
                loader = loader.shuffle(6);
            }
            if settings & 4 > 0 {
                loader = loader.normalize(&Normalize { mean: vec![0.4, 0.5, 0.6], std: vec![0.2, 0.3, 0.4] });
            }
            let plain = loader.clone();
            loader = changes.iter().fold(loader, |loader, change| loader.augment(*change));
            let first = 1 + settings % 2;
            let stored = Stored::new(&loader, Preparation::new(&loader, 7), pictures.clone(), first).unwrap();
            let (wanted, state) = (loader.epoch_from(7, first), State::Stored(stored));
            let remaining = wanted.len();
            let found = Epoch { device: Device::Cpu, shape: (3, 32, 32), remaining, state };
            let values = |batch: Batch| {
                let images = batch.images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                (images, batch.labels.to_vec1::<u32>().unwrap(), batch.indices)
            };
            let [wanted, found, plain]: [Vec<_>; 3] = [wanted, found, plain.epoch_from(7, first)]
                .map(|epoch| epoch.map(|batch| values(batch.unwrap())).collect());
            assert_eq!(wanted.len(), remaining);
            assert!(found == wanted, "{loader:?}");
            differ += usize::from(wanted != plain);
        }
        assert_eq!(differ, 7 * 8, "the changes change nothing");
    }
}
