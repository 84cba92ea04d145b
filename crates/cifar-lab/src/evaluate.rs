//! How good a network is: accuracy, overall and per class; confusion matrix; the prediction for each image.
//!
//! Evaluation runs the network with `train = false`: batch norm then uses its running statistics, as after PyTorch's
//! `net.eval()`. The original never calls that, so its 77 % was measured with the statistics of each test batch.

use candle_core::{D, DType};
use candle_nn::ModuleT;
use std::fmt::{Display, Formatter};
use std::time::{Duration, Instant};

use crate::dataset::Split;
use crate::device::between_steps;
use crate::error::{Error, Result};
use crate::loader::DataLoader;

/// The network's prediction for one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// The image's index in the data set.
    pub index: usize,
    /// The true class.
    pub label: usize,
    /// The class with the largest logit, the first on ties; `None` if the output is NaN or infinite, so that softmax
    /// gives no probabilities. (A logit of −∞ is fine: its class has probability 0.)
    pub predicted: Option<usize>,
    /// The probability (softmax) of the predicted class, in [0, 1]; 0 if there is none.
    pub probability: f32,
}

impl Prediction {
    /// Whether the true class was predicted.
    pub fn is_right(&self) -> bool {
        self.predicted == Some(self.label)
    }
}

/// Shown in place of a class if there is none.
pub(crate) const NO_CLASS: &str = "not a number";

/// The result of [`evaluate`].
#[derive(Clone, Debug)]
pub struct Evaluation {
    loss: f64,
    predictions: Vec<Prediction>,
    class_names: Vec<String>,
    pub(crate) data: String,
    split: Split,
    took: Duration,
}

/// Runs `network` in evaluation mode over the images of `loader`'s first epoch, without gradients: all of them, unless
/// `drop_last` leaves some out. An image whose output is NaN or infinite counts as wrong; [`Evaluation::not_finite`] counts
/// them.
///
/// On a GPU, the trainings in this process wait between two steps meanwhile. To know which steps, or on the CPU to evaluate
/// weights of one moment, use [`Training::evaluate`](crate::training::Training::evaluate).
///
/// ```
/// use candle_cnn::parameters::Parameters;
/// use candle_core::Device;
/// use cifar_lab::{dataset::Cifar10, evaluate::evaluate, loader::DataLoader, model::Net};
///
/// let data = Cifar10::stand_in(0, 20, 20);
/// let net = Net::new(&Default::default(), Parameters::new(0).var_builder(&Device::Cpu))?;
/// let evaluation = evaluate(&net, &DataLoader::new(&data.test, &Device::Cpu))?;
/// assert_eq!((evaluation.images(), evaluation.not_finite()), (20, 0));
/// assert!((0.0..=1.0).contains(&evaluation.accuracy()));
/// assert_eq!(evaluation.confusion_matrix().counts().len(), 10);
/// assert!(evaluation.surest_mistakes().iter().all(|mistake| !mistake.is_right()));
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// If an image can't be read or the network rejects a batch; [`Error::Setting`] if the network has fewer classes than
/// the data set, or the loader has no images.
pub fn evaluate(network: &impl ModuleT, loader: &DataLoader) -> Result<Evaluation> {
    evaluate_any(network, loader)
}

/// Not generic: a cell would compile it for its network.
fn evaluate_any(network: &dyn ModuleT, loader: &DataLoader) -> Result<Evaluation> {
    between_steps(loader.device(), || evaluate_now(network, loader))
}

fn evaluate_now(network: &dyn ModuleT, loader: &DataLoader) -> Result<Evaluation> {
    let started = Instant::now();
    let class_names = loader.dataset().class_names().to_vec();
    let mut predictions = Vec::with_capacity(loader.dataset().len());
    let mut loss = 0.0;
    for batch in loader.epoch(0) {
        let batch = batch?;
        // Detached: nothing needs a gradient here, so each batch's graph is freed at once.
        let logits = network.forward_t(&batch.images, false)?.detach().to_dtype(DType::F32)?;
        let classes = logits.dim(D::Minus1)?;
        if classes < class_names.len() {
            return Err(Error::Setting {
                name: "classes",
                value: classes.to_string(),
                reason: format!("this data set needs a network with at least {} classes", class_names.len()),
            });
        }
        let images = batch.indices.len();
        let mean = candle_cnn::ops::cross_entropy(&logits, &batch.labels)?.to_scalar::<f32>()?;
        loss += f64::from(mean) * images as f64;
        let probabilities = candle_nn::ops::softmax(&logits, D::Minus1)?.to_vec2::<f32>()?;
        let labels = batch.labels.to_dtype(DType::U32)?.to_vec1::<u32>()?;
        for ((index, label), row) in batch.indices.into_iter().zip(labels).zip(probabilities) {
            let (predicted, probability) = largest(&row).map_or((None, 0.0), |(class, share)| (Some(class), share));
            predictions.push(Prediction { index, label: label as usize, predicted, probability });
        }
    }
    if predictions.is_empty() {
        return Err(Error::Setting { name: "images", value: "0".into(), reason: "there must be at least one".into() });
    }
    loss /= predictions.len() as f64;
    let data = loader.dataset().name().to_string();
    let split = loader.dataset().split();
    Ok(Evaluation { loss, predictions, class_names, data, split, took: started.elapsed() })
}

/// The largest probability of a row and its index, the first on ties; `None` if one of them is NaN.
fn largest(row: &[f32]) -> Option<(usize, f32)> {
    let larger = |best: (usize, f32), next: (usize, f32)| if next.1 > best.1 { next } else { best };
    are_numbers(row).then(|| row.iter().copied().enumerate().reduce(larger)).flatten()
}

/// Whether these are probabilities: softmax turns a whole row into NaN if a logit is NaN or +∞, or if all are −∞.
pub(crate) fn are_numbers(probabilities: &[f32]) -> bool {
    probabilities.iter().all(|probability| probability.is_finite())
}

impl Evaluation {
    /// Mean cross entropy, in nats; NaN if an output is.
    pub fn loss(&self) -> f64 {
        self.loss
    }

    /// Share of correctly classified images, in [0, 1].
    pub fn accuracy(&self) -> f64 {
        self.right() as f64 / self.predictions.len() as f64
    }

    fn right(&self) -> usize {
        self.predictions.iter().filter(|p| p.is_right()).count()
    }

    /// The number of images whose output is NaN or infinite; they have no prediction and count as wrong.
    pub fn not_finite(&self) -> usize {
        self.predictions.iter().filter(|p| p.predicted.is_none()).count()
    }

    /// The number of images.
    pub fn images(&self) -> usize {
        self.predictions.len()
    }

    /// Each image's prediction, in the loader's order.
    pub fn predictions(&self) -> &[Prediction] {
        &self.predictions
    }

    /// How often each class was predicted for each true class.
    pub fn confusion_matrix(&self) -> ConfusionMatrix {
        ConfusionMatrix { data: self.data.clone(), ..ConfusionMatrix::new(&self.predictions, &self.class_names) }
    }

    /// The wrong predictions, the most confident first, those without a class last.
    pub fn surest_mistakes(&self) -> Vec<Prediction> {
        let wrong = self.predictions.iter().filter(|p| !p.is_right());
        let mut mistakes: Vec<Prediction> = wrong.copied().collect();
        mistakes.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        mistakes
    }
}

impl Display for Evaluation {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Accuracy of the network on the {} {} images: {:.2} %  (loss {:.3}; {}; {:.1} s)",
            self.images(),
            if self.split == Split::Train { "training" } else { "test" },
            100.0 * self.accuracy(),
            self.loss,
            self.data,
            self.took.as_secs_f64()
        )?;
        match self.not_finite() {
            0 => Ok(()),
            1 => write!(f, "; 1 of {} outputs is NaN or infinite and counts as wrong", self.images()),
            n => write!(f, "; {n} of {} outputs are NaN or infinite and count as wrong", self.images()),
        }
    }
}

/// How often each class was predicted for the images of each true class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfusionMatrix {
    counts: Vec<Vec<u64>>,
    unclassified: Vec<u64>,
    pub(crate) class_names: Vec<String>,
    /// The data set's name, for titles.
    pub(crate) data: String,
}

impl ConfusionMatrix {
    /// Counts `predictions`, except those whose label is not below `class_names.len()`.
    ///
    /// ```
    /// use cifar_lab::evaluate::{ConfusionMatrix, Prediction};
    /// let cat_for_dog = Prediction { index: 0, label: 1, predicted: Some(0), probability: 0.9 };
    /// let matrix = ConfusionMatrix::new(&[cat_for_dog], &["cat".into(), "dog".into()]);
    /// assert_eq!(matrix.counts(), [[0, 0], [1, 0]]);
    /// ```
    pub fn new(predictions: &[Prediction], class_names: &[String]) -> Self {
        let classes = class_names.len();
        let (mut counts, mut unclassified) = (vec![vec![0; classes]; classes], vec![0; classes]);
        for prediction in predictions {
            let Some(row) = counts.get_mut(prediction.label) else { continue };
            match prediction.predicted.and_then(|class| row.get_mut(class)) {
                Some(count) => *count += 1,
                None => unclassified[prediction.label] += 1,
            }
        }
        Self { counts, unclassified, class_names: class_names.to_vec(), data: String::new() }
    }

    /// For each true class, the images without a predicted class: the output is NaN or infinite, or the network has
    /// more classes than the data set.
    pub fn unclassified(&self) -> &[u64] {
        &self.unclassified
    }

    /// The number of images of a true class.
    pub(crate) fn images(&self, class: usize) -> u64 {
        self.counts[class].iter().sum::<u64>() + self.unclassified[class]
    }

    /// The counts: a row for each true class, a column for each predicted one.
    pub fn counts(&self) -> &[Vec<u64>] {
        &self.counts
    }

    /// Each class with its recall, the share of its images that were classified correctly, in [0, 1]; NaN for a class
    /// without images.
    pub fn per_class(&self) -> Vec<(String, f64)> {
        let recall = |(class, row): (usize, &Vec<u64>)| {
            let share = row[class] as f64 / self.images(class) as f64;
            (self.class_names[class].clone(), share)
        };
        self.counts.iter().enumerate().map(recall).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Cifar10, Dataset};
    use candle_core::{Device, Tensor};

    /// Always predicts class `.0`, with the logit `.1`.
    struct Always(usize, f32);

    impl ModuleT for Always {
        fn forward_t(&self, x: &Tensor, _train: bool) -> candle_core::Result<Tensor> {
            let mut row = [0f32; 10];
            row[self.0] = self.1;
            Tensor::new(&row, x.device())?.unsqueeze(0)?.broadcast_as((x.dim(0)?, 10))
        }
    }

    #[test]
    fn figures_are_those_of_the_definition() -> Result<()> {
        let data = Cifar10::stand_in(0, 10, 64).test;
        let of_class = |class| data.class_counts()[class] as f64 / data.len() as f64;
        // 10 does not divide 64: the smaller last batch must not weigh more.
        let loader = DataLoader::new(&data, &Device::Cpu).batch_size(10);
        let evaluation = evaluate(&Always(3, 2.0), &loader)?;
        assert_eq!(evaluation.images(), 64);
        assert!((evaluation.accuracy() - of_class(3)).abs() < 1e-12);
        let log_sum = (9.0 + 2f64.exp()).ln();
        let loss = log_sum - 2.0 * of_class(3);
        assert!((evaluation.loss() - loss).abs() < 1e-6, "{} {loss}", evaluation.loss());
        let probability = 2f64.exp() / (9.0 + 2f64.exp());
        assert!((f64::from(evaluation.predictions()[0].probability) - probability).abs() < 1e-6);
        let matrix = evaluation.confusion_matrix();
        assert_eq!(matrix.counts().iter().map(|row| row[3]).sum::<u64>(), 64);
        assert_eq!(matrix.per_class()[3].1, 1.0);
        Ok(())
    }

    #[test]
    fn the_surest_mistakes_come_first() {
        let prediction = |index, label, predicted: usize, probability| Prediction {
            index,
            label,
            predicted: Some(predicted),
            probability,
        };
        let nan = Prediction { index: 3, label: 1, predicted: None, probability: 0.0 };
        let predictions = vec![nan, prediction(0, 0, 1, 0.6), prediction(1, 1, 1, 0.99), prediction(2, 1, 0, 0.8)];
        let evaluation = Evaluation {
            loss: 0.0,
            predictions,
            class_names: vec!["a".into(), "b".into()],
            data: String::new(),
            split: Split::Test,
            took: Duration::ZERO,
        };
        let order: Vec<usize> = evaluation.surest_mistakes().iter().map(|p| p.index).collect();
        assert_eq!(order, [2, 0, 3]);
    }

    #[test]
    fn it_says_which_images_they_were() -> Result<()> {
        let data = Cifar10::stand_in(0, 10, 10);
        for (set, words) in [(&data.train, "the 10 training images"), (&data.test, "the 10 test images")] {
            let rows = Rows(vec![[0.0; 10]; 10], Default::default());
            let line = evaluate(&rows, &DataLoader::new(set, &Device::Cpu))?.to_string();
            assert!(line.contains(words), "{line}");
        }
        Ok(())
    }

    /// Outputs these rows one after the other, whatever the images are.
    struct Rows(Vec<[f32; 10]>, std::cell::Cell<usize>);

    impl ModuleT for Rows {
        fn forward_t(&self, x: &Tensor, _train: bool) -> candle_core::Result<Tensor> {
            let from = self.1.replace(self.1.get() + x.dim(0)?);
            Tensor::from_vec(self.0[from..self.1.get()].concat(), (x.dim(0)?, 10), x.device())
        }
    }

    /// An evaluation on as many images as there are rows of logits.
    fn evaluation(rows: &[fn(label: usize) -> [f32; 10]]) -> Result<(Dataset, Evaluation)> {
        let data = Cifar10::stand_in(0, 10, rows.len()).test;
        let labels = data.labels();
        let rows = rows.iter().zip(&labels).map(|(row, &label)| row(label as usize)).collect();
        // In several batches.
        let loader = DataLoader::new(&data, &Device::Cpu).batch_size(4);
        let evaluation = evaluate(&Rows(rows, Default::default()), &loader)?;
        Ok((data, evaluation))
    }

    /// A row of zeros except for `value`, `shift` classes after the true one.
    fn row(label: usize, shift: usize, value: f32) -> [f32; 10] {
        let mut row = [0.0; 10];
        row[(label + shift) % 10] = value;
        row
    }

    /// Rows that softmax turns into NaN, whichever value is the cause.
    const NO_NUMBERS: [fn(usize) -> [f32; 10]; 6] = [
        |label| row(label, 0, f32::NAN),
        |label| row(label, 1, f32::NAN),
        |_| [f32::NAN; 10],
        |label| row(label, 0, f32::INFINITY),
        |label| row(label, 9, f32::INFINITY),
        |_| [f32::NEG_INFINITY; 10],
    ];

    #[test]
    fn outputs_that_are_no_numbers_count_as_wrong_and_are_counted() -> Result<()> {
        let mut rows = NO_NUMBERS.to_vec();
        rows.extend([|label| row(label, 0, 2.0), |label| row(label, 3, 1.0)] as [fn(usize) -> [f32; 10]; 2]);
        let (data, evaluation) = evaluation(&rows)?;
        for prediction in &evaluation.predictions()[..6] {
            assert_eq!((prediction.predicted, prediction.probability), (None, 0.0), "{prediction:?}");
        }
        assert_eq!((evaluation.not_finite(), evaluation.accuracy()), (6, 0.125));
        assert!(evaluation.loss().is_nan());
        let line = evaluation.to_string();
        assert!(line.contains("8 test images: 12.50 %  (loss NaN; "), "{line}");
        assert!(line.ends_with("; 6 of 8 outputs are NaN or infinite and count as wrong"), "{line}");
        // The wrong prediction comes before those without a class.
        let mistakes = evaluation.surest_mistakes();
        assert_eq!((mistakes.len(), mistakes[0].index), (7, 7));

        let matrix = evaluation.confusion_matrix();
        assert_eq!(matrix.counts().iter().flatten().sum::<u64>(), 2);
        assert_eq!(matrix.unclassified().iter().sum::<u64>(), 6);
        for (class, (_, accuracy)) in matrix.per_class().into_iter().enumerate() {
            let images = data.class_counts()[class];
            let right = if class == data.label(6)? { 1.0 } else { 0.0 };
            assert!(if images == 0 { accuracy.is_nan() } else { accuracy == right / images as f64 }, "{class}");
        }
        Ok(())
    }

    #[test]
    fn finite_outputs_are_not_mentioned_and_one_that_is_not_is_singular() -> Result<()> {
        let (_, all) = evaluation(&[|label| row(label, 0, 1.0)])?;
        assert!(!all.to_string().contains("number"), "{all}");
        let (_, one) = evaluation(&[|label| row(label, 0, 1.0), |_| [f32::NAN; 10]])?;
        let line = one.to_string();
        assert!(line.ends_with("; 1 of 2 outputs is NaN or infinite and counts as wrong"), "{line}");
        Ok(())
    }

    #[test]
    fn a_logit_of_minus_infinity_is_probability_0() -> Result<()> {
        let masked: fn(usize) -> [f32; 10] = |label| {
            let mut row = [f32::NEG_INFINITY; 10];
            row[label] = -3.0;
            row
        };
        let (_, sure) = evaluation(&[masked, |label| row(label, 4, f32::NEG_INFINITY)])?;
        assert_eq!(sure.not_finite(), 0);
        assert_eq!((sure.predictions()[0].is_right(), sure.predictions()[0].probability), (true, 1.0));
        assert!((sure.predictions()[1].probability - 1.0 / 9.0).abs() < 1e-6);
        // The true class ruled out: wrong, with an infinite loss, and no NaN.
        let (_, ruled_out) = evaluation(&[|label| row(label, 0, f32::NEG_INFINITY)])?;
        assert_eq!((ruled_out.not_finite(), ruled_out.accuracy(), ruled_out.loss()), (0, 0.0, f64::INFINITY));
        Ok(())
    }
}
