//! How good a network is: accuracy, accuracy per class, confusion matrix, each image's prediction.
//!
//! Evaluation runs the network with `train = false`: batch norm then uses its running statistics, as after PyTorch's
//! `net.eval()`. The original never calls that, so its 77 % was measured with the statistics of each test batch.

use candle_core::{D, DType};
use candle_nn::ModuleT;
use std::fmt::{Display, Formatter};
use std::time::{Duration, Instant};

use crate::calibration::Calibration;
use crate::dataset::Dataset;
use crate::display::{Figure, Table};
use crate::error::{Error, Result};
use crate::loader::DataLoader;
use crate::plot;

/// What the network said of one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// The image's index in the data set.
    pub index: usize,
    /// The true class.
    pub label: usize,
    /// The class with the largest logit; the first of them on ties.
    pub predicted: usize,
    /// The network's probability (softmax) for the predicted class, in [0, 1].
    pub probability: f32,
}

/// The result of [`evaluate`].
#[derive(Clone, Debug)]
pub struct Evaluation {
    loss: f64,
    predictions: Vec<Prediction>,
    class_names: Vec<String>,
    data: String,
    took: Duration,
}

/// Runs `network` in evaluation mode over all of `loader`'s images, without gradients being used and without
/// changing anything.
///
/// ```
/// use candle_cnn::parameters::Parameters;
/// use candle_core::Device;
/// use cifar_lab::{dataset::Cifar10, evaluate::evaluate, loader::DataLoader, model::Net};
///
/// let data = Cifar10::stand_in(0, 20, 20);
/// let net = Net::new(&Default::default(), Parameters::new(0).var_builder(&Device::Cpu))?;
/// let evaluation = evaluate(&net, &DataLoader::new(&data.test, &Device::Cpu))?;
/// assert_eq!(evaluation.images(), 20);
/// assert!((0.0..=1.0).contains(&evaluation.accuracy()));
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// Where an image cannot be read, or the network does not accept a batch; [`Error::Setting`] for a network with
/// fewer classes than the data set, or a loader without images.
pub fn evaluate(network: &impl ModuleT, loader: &DataLoader) -> Result<Evaluation> {
    let started = Instant::now();
    let class_names = loader.dataset().class_names().to_vec();
    let mut predictions = Vec::with_capacity(loader.dataset().len());
    let mut loss = 0.0;
    for batch in loader.epoch(0) {
        let batch = batch?;
        // Detached: nothing here needs a gradient, and the graph of each batch is freed at once.
        let logits = network.forward_t(&batch.images, false)?.detach().to_dtype(DType::F32)?;
        let classes = logits.dim(D::Minus1)?;
        if classes < class_names.len() {
            return Err(Error::Setting {
                name: "classes",
                value: classes.to_string(),
                reason: format!("the network must tell {} classes apart on this data set", class_names.len()),
            });
        }
        let images = batch.indices.len();
        let mean = candle_cnn::ops::cross_entropy(&logits, &batch.labels)?.to_scalar::<f32>()?;
        loss += f64::from(mean) * images as f64;
        let probabilities = candle_nn::ops::softmax(&logits, D::Minus1)?.to_vec2::<f32>()?;
        let labels = batch.labels.to_dtype(DType::U32)?.to_vec1::<u32>()?;
        for ((index, label), row) in batch.indices.into_iter().zip(labels).zip(probabilities) {
            let (predicted, probability) = largest(&row);
            predictions.push(Prediction { index, label: label as usize, predicted, probability });
        }
    }
    if predictions.is_empty() {
        return Err(Error::Setting {
            name: "images",
            value: "0".into(),
            reason: "an accuracy needs at least one image".into(),
        });
    }
    loss /= predictions.len() as f64;
    let data = loader.dataset().name().to_string();
    Ok(Evaluation { loss, predictions, class_names, data, took: started.elapsed() })
}

/// The first of the largest values, with its index; NaN is larger than nothing.
fn largest(row: &[f32]) -> (usize, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, &value) in row.iter().enumerate() {
        if value > best.1 {
            best = (index, value);
        }
    }
    best
}

impl Evaluation {
    /// Mean cross entropy, in nats.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, evaluate::evaluate, loader::DataLoader, model::Net};
    /// # use candle_core::Device;
    /// # let net = Net::new(&Default::default(), candle_cnn::parameters::Parameters::new(0).var_builder(&Device::Cpu))?;
    /// # let loader = DataLoader::new(&Cifar10::stand_in(0, 10, 20).test, &Device::Cpu);
    /// let evaluation = evaluate(&net, &loader)?;
    /// assert!(evaluation.loss() > 0.0);
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn loss(&self) -> f64 {
        self.loss
    }

    /// Share of images classified rightly, in [0, 1].
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, evaluate::evaluate, loader::DataLoader, model::Net};
    /// # use candle_core::Device;
    /// # let net = Net::new(&Default::default(), candle_cnn::parameters::Parameters::new(0).var_builder(&Device::Cpu))?;
    /// # let loader = DataLoader::new(&Cifar10::stand_in(0, 10, 20).test, &Device::Cpu);
    /// let evaluation = evaluate(&net, &loader)?;
    /// println!("{:.1} %", 100.0 * evaluation.accuracy());
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn accuracy(&self) -> f64 {
        self.right() as f64 / self.predictions.len() as f64
    }

    fn right(&self) -> usize {
        self.predictions.iter().filter(|p| p.predicted == p.label).count()
    }

    /// Number of images.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, evaluate::evaluate, loader::DataLoader, model::Net};
    /// # use candle_core::Device;
    /// # let net = Net::new(&Default::default(), candle_cnn::parameters::Parameters::new(0).var_builder(&Device::Cpu))?;
    /// # let loader = DataLoader::new(&Cifar10::stand_in(0, 10, 20).test, &Device::Cpu);
    /// let evaluation = evaluate(&net, &loader)?;
    /// assert_eq!(evaluation.images(), 20);
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn images(&self) -> usize {
        self.predictions.len()
    }

    /// Each image's prediction, in the loader's order.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, evaluate::evaluate, loader::DataLoader, model::Net};
    /// # use candle_core::Device;
    /// # let net = Net::new(&Default::default(), candle_cnn::parameters::Parameters::new(0).var_builder(&Device::Cpu))?;
    /// # let loader = DataLoader::new(&Cifar10::stand_in(0, 10, 20).test, &Device::Cpu);
    /// let evaluation = evaluate(&net, &loader)?;
    /// assert_eq!(evaluation.predictions()[3].index, 3);
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn predictions(&self) -> &[Prediction] {
        &self.predictions
    }

    /// How often each class was taken for each.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, evaluate::evaluate, loader::DataLoader, model::Net};
    /// # use candle_core::Device;
    /// # let net = Net::new(&Default::default(), candle_cnn::parameters::Parameters::new(0).var_builder(&Device::Cpu))?;
    /// # let loader = DataLoader::new(&Cifar10::stand_in(0, 10, 20).test, &Device::Cpu);
    /// let evaluation = evaluate(&net, &loader)?;
    /// assert_eq!(evaluation.confusion_matrix().counts().len(), 10);
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn confusion_matrix(&self) -> ConfusionMatrix {
        ConfusionMatrix { data: self.data.clone(), ..ConfusionMatrix::new(&self.predictions, &self.class_names) }
    }

    /// How often the network is right at each confidence, in `bins` intervals.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, evaluate::evaluate, loader::DataLoader, model::Net};
    /// # use candle_core::Device;
    /// # let net = Net::new(&Default::default(), candle_cnn::parameters::Parameters::new(0).var_builder(&Device::Cpu))?;
    /// # let loader = DataLoader::new(&Cifar10::stand_in(0, 10, 20).test, &Device::Cpu);
    /// let evaluation = evaluate(&net, &loader)?;
    /// assert!((0.0..=1.0).contains(&evaluation.calibration(15)?.expected_error()));
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Calibration::new`].
    pub fn calibration(&self, bins: usize) -> Result<Calibration> {
        Ok(Calibration::new(&self.predictions, bins)?.of(&self.data))
    }

    /// The wrong predictions, those first of which the network was surest.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, evaluate::evaluate, loader::DataLoader, model::Net};
    /// # use candle_core::Device;
    /// # let net = Net::new(&Default::default(), candle_cnn::parameters::Parameters::new(0).var_builder(&Device::Cpu))?;
    /// # let loader = DataLoader::new(&Cifar10::stand_in(0, 10, 20).test, &Device::Cpu);
    /// let evaluation = evaluate(&net, &loader)?;
    /// assert!(evaluation.surest_mistakes().iter().all(|p| p.label != p.predicted));
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn surest_mistakes(&self) -> Vec<Prediction> {
        let wrong = self.predictions.iter().filter(|p| p.predicted != p.label);
        let mut mistakes: Vec<Prediction> = wrong.copied().collect();
        mistakes.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        mistakes
    }
}

impl Display for Evaluation {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Accuracy of the network on the {} test images: {:.2} %  (loss {:.3}; {}; {:.1} s)",
            self.images(),
            100.0 * self.accuracy(),
            self.loss,
            self.data,
            self.took.as_secs_f64()
        )
    }
}

/// The pictures behind `predictions` in `columns` columns, each with what the network said of it, its probability
/// and, where it is wrong, the true class.
///
/// ```
/// use cifar_lab::{dataset::Cifar10, evaluate::{Prediction, prediction_gallery}};
/// let data = Cifar10::stand_in(0, 10, 10).test;
/// let said = Prediction { index: 3, label: data.label(3)?, predicted: 0, probability: 0.7 };
/// let figure = prediction_gallery(&data, &[said], 8)?;
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// Where an index is not in `data`, or the pictures cannot be drawn.
pub fn prediction_gallery(data: &Dataset, predictions: &[Prediction], columns: usize) -> Result<Figure> {
    let class = |class: usize| data.class_names().get(class).map_or("?", String::as_str);
    let (mut pictures, mut labels, mut correct) = (Vec::new(), Vec::new(), Vec::new());
    for prediction in predictions {
        let right = prediction.predicted == prediction.label;
        let said = format!("{} {:.0} %", class(prediction.predicted), 100.0 * prediction.probability);
        labels.push(if right { said } else { format!("{said}\ntrue: {}", class(prediction.label)) });
        pictures.push(data.picture(prediction.index)?);
        correct.push(right);
    }
    Ok(plot::Gallery::new(pictures)
        .title(format!("What the network says: {}, {}", data.name(), data.split()))
        .labels(&labels)
        .correct(&correct)
        .columns(columns)
        .draw()?)
}

/// How often images of each true class were taken for each class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfusionMatrix {
    counts: Vec<Vec<u64>>,
    class_names: Vec<String>,
    /// The data set's name, for titles.
    data: String,
}

impl ConfusionMatrix {
    /// Counts `predictions`; labels and predictions are below `class_names.len()`, others are left out.
    ///
    /// ```
    /// use cifar_lab::evaluate::{ConfusionMatrix, Prediction};
    /// let cat_for_dog = Prediction { index: 0, label: 1, predicted: 0, probability: 0.9 };
    /// let matrix = ConfusionMatrix::new(&[cat_for_dog], &["cat".into(), "dog".into()]);
    /// assert_eq!(matrix.counts(), [[0, 0], [1, 0]]);
    /// ```
    pub fn new(predictions: &[Prediction], class_names: &[String]) -> Self {
        let classes = class_names.len();
        let mut counts = vec![vec![0; classes]; classes];
        for prediction in predictions {
            if let Some(count) = counts.get_mut(prediction.label).and_then(|row| row.get_mut(prediction.predicted)) {
                *count += 1;
            }
        }
        Self { counts, class_names: class_names.to_vec(), data: String::new() }
    }

    /// The counts: a row for each true class, a column for each predicted one.
    ///
    /// ```
    /// # use cifar_lab::evaluate::{ConfusionMatrix, Prediction};
    /// let right = Prediction { index: 0, label: 1, predicted: 1, probability: 0.9 };
    /// let matrix = ConfusionMatrix::new(&[right], &["cat".into(), "dog".into()]);
    /// assert_eq!(matrix.counts()[1], [0, 1]);
    /// ```
    pub fn counts(&self) -> &[Vec<u64>] {
        &self.counts
    }

    /// Each class with the share of its images that were classified rightly (its recall), in [0, 1]; NaN for a class
    /// without images.
    ///
    /// ```
    /// # use cifar_lab::evaluate::{ConfusionMatrix, Prediction};
    /// let right = Prediction { index: 0, label: 1, predicted: 1, probability: 0.9 };
    /// let matrix = ConfusionMatrix::new(&[right], &["cat".into(), "dog".into()]);
    /// assert_eq!(matrix.per_class()[1], ("dog".to_string(), 1.0));
    /// ```
    pub fn per_class(&self) -> Vec<(String, f64)> {
        let recall = |(class, row): (usize, &Vec<u64>)| {
            let share = row[class] as f64 / row.iter().sum::<u64>() as f64;
            (self.class_names[class].clone(), share)
        };
        self.counts.iter().enumerate().map(recall).collect()
    }

    /// Each class with its images and its accuracy, as a table.
    ///
    /// ```
    /// # use cifar_lab::evaluate::{ConfusionMatrix, Prediction};
    /// let right = Prediction { index: 0, label: 1, predicted: 1, probability: 0.9 };
    /// let matrix = ConfusionMatrix::new(&[right], &["cat".into(), "dog".into()]);
    /// assert!(matrix.per_class_table().to_string().contains("100.0 %"));
    /// ```
    pub fn per_class_table(&self) -> Table {
        let table = Table::new(["class", "images", "right", "accuracy"]).caption(self.data.clone());
        self.per_class().into_iter().enumerate().fold(table, |table, (class, (name, share))| {
            let images: u64 = self.counts[class].iter().sum();
            let percent = if images == 0 { "–".to_string() } else { format!("{:.1} %", 100.0 * share) };
            table.row([name, images.to_string(), self.counts[class][class].to_string(), percent])
        })
    }

    /// The matrix as a picture.
    ///
    /// ```
    /// # use cifar_lab::evaluate::{ConfusionMatrix, Prediction};
    /// let right = Prediction { index: 0, label: 1, predicted: 1, probability: 0.9 };
    /// let matrix = ConfusionMatrix::new(&[right], &["cat".into(), "dog".into()]);
    /// assert!(matrix.picture()?.text().contains("dog"));
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where it cannot be drawn; see [`plot::PlotError`].
    pub fn picture(&self) -> Result<Figure> {
        let of = if self.data.is_empty() { String::new() } else { format!(": {}", self.data) };
        Ok(plot::confusion_matrix(&format!("Confusion matrix{of}"), &self.counts, &self.class_names)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Cifar10;
    use candle_core::{Device, Tensor};

    /// Always says class `.0`, as surely as `.1` tells.
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
        // A batch size that does not divide 64: the last, smaller batch must not weigh more.
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
        let prediction = |index, label, predicted, probability| Prediction { index, label, predicted, probability };
        let predictions = vec![prediction(0, 0, 1, 0.6), prediction(1, 1, 1, 0.99), prediction(2, 1, 0, 0.8)];
        let evaluation = Evaluation {
            loss: 0.0,
            predictions,
            class_names: vec!["a".into(), "b".into()],
            data: String::new(),
            took: Duration::ZERO,
        };
        let order: Vec<usize> = evaluation.surest_mistakes().iter().map(|p| p.index).collect();
        assert_eq!(order, [2, 0]);
    }
}
