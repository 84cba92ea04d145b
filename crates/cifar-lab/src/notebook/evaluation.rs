//! How an evaluation shows itself: predictions with their images, confusion matrix, calibration.

use notebook_charts::{Figure, Gallery, Table, View, confusion_matrix_with_unclassified, numbers, reliability_diagram};

use super::plot::titled;
use super::show::Show;
use crate::calibration::Calibration;
use crate::dataset::Dataset;
use crate::error::Result;
use crate::evaluate::{ConfusionMatrix, Evaluation, NO_CLASS, Prediction};

/// The images of `predictions` in `columns` columns, each with the predicted class and its probability and, if it is wrong,
/// the true class.
///
/// ```
/// use cifar_lab::{dataset::Cifar10, evaluate::Prediction, notebook::prediction_gallery};
/// let data = Cifar10::stand_in(0, 10, 10).test;
/// let prediction = Prediction { index: 3, label: data.label(3)?, predicted: Some(0), probability: 0.7 };
/// let figure = prediction_gallery(&data, &[prediction], 8)?;
/// assert!(figure.text().contains("70 %"));
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// If an index is not in `data`, or the images can't be drawn.
pub fn prediction_gallery(data: &Dataset, predictions: &[Prediction], columns: usize) -> Result<Figure> {
    let class = |class: usize| data.class_names().get(class).map_or("?", String::as_str);
    let (mut pictures, mut labels, mut correct) = (Vec::new(), Vec::new(), Vec::new());
    for prediction in predictions {
        let right = prediction.is_right();
        let said = match prediction.predicted {
            Some(predicted) => format!("{} {:.0} %", class(predicted), 100.0 * prediction.probability),
            None => NO_CLASS.to_string(),
        };
        labels.push(if right { said } else { format!("{said}\ntrue: {}", class(prediction.label)) });
        pictures.push(data.image(prediction.index)?);
        correct.push(right);
    }
    Ok(Gallery::new(pictures)
        .title(format!("What the network says: {}, {}", data.name(), data.split()))
        .labels(&labels)
        .correct(&correct)
        .columns(columns)
        .draw()?)
}

impl ConfusionMatrix {
    /// A table of each class with its images and its accuracy; also those without a predicted class, if there are any.
    pub fn per_class_table(&self) -> Table {
        let all_classified = self.unclassified().iter().all(|&count| count == 0);
        let mut header = vec!["class", "images", "right", "accuracy"];
        header.extend((!all_classified).then_some("no class"));
        let table = Table::new(header).caption(self.data.clone());
        self.per_class().into_iter().enumerate().fold(table, |table, (class, (name, share))| {
            let images = self.images(class);
            let percent = if images == 0 { "–".to_string() } else { numbers::percent(share) };
            let mut row = vec![name, images.to_string(), self.counts()[class][class].to_string(), percent];
            row.extend((!all_classified).then(|| self.unclassified()[class].to_string()));
            table.row(row)
        })
    }

    /// The matrix as a figure.
    ///
    /// # Errors
    /// If it can't be drawn; see [`PlotError`](notebook_charts::PlotError).
    pub fn figure(&self) -> Result<Figure> {
        let title = titled("Confusion matrix", &self.data);
        Ok(confusion_matrix_with_unclassified(&title, self.counts(), self.unclassified(), &self.class_names)?)
    }
}

impl Calibration {
    /// The reliability diagram; see [`reliability_diagram`].
    ///
    /// # Errors
    /// If it can't be drawn; see [`PlotError`](notebook_charts::PlotError).
    pub fn figure(&self) -> Result<Figure> {
        Ok(reliability_diagram(&titled("Calibration", &self.data), self.bins(), &[self.to_string()])?)
    }
}

impl Show for Evaluation {
    fn view(&self) -> View {
        View::tables(self.to_string(), &[self.confusion_matrix().per_class_table()])
    }
}

impl Show for ConfusionMatrix {
    fn view(&self) -> View {
        // A matrix without classes can't be drawn, but is still a table.
        self.figure().map_or_else(|_| self.per_class_table().into(), View::from)
    }
}

impl Show for Calibration {
    fn view(&self) -> View {
        self.figure().map_or_else(|_| View::line(self.to_string()), View::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::evaluate;
    use crate::loader::DataLoader;
    use candle_core::{Device, Tensor};

    #[test]
    fn outputs_that_are_no_numbers_are_shown_as_such() -> Result<()> {
        let data = crate::dataset::Cifar10::stand_in(0, 10, 8).test;
        let predicted = |index: usize, label: usize| match index {
            0..6 => None,
            6 => Some(label),
            _ => Some((label + 3) % 10),
        };
        let mut predictions = Vec::new();
        for index in 0..8 {
            let label = data.label(index)?;
            let predicted = predicted(index, label);
            let probability = if predicted.is_none() { 0.0 } else { 0.5 };
            predictions.push(Prediction { index, label, predicted, probability });
        }
        let matrix = ConfusionMatrix::new(&predictions, data.class_names());
        assert!(matrix.per_class_table().to_string().contains("no class"));
        let text = matrix.figure()?.text().to_string();
        assert!(text.contains("1 of 8 right (12.5 %); 6 were classified as none of these classes"), "{text}");
        let classified = ConfusionMatrix::new(&predictions[6..], data.class_names());
        assert!(!classified.per_class_table().to_string().contains("no class"));

        let gallery = prediction_gallery(&data, &predictions, 4)?.text().to_string();
        assert_eq!(gallery.matches("not a number, true: ").count(), 6, "{gallery}");
        assert_eq!((gallery.matches("(wrong)").count(), gallery.matches("(right)").count()), (7, 1), "{gallery}");
        assert!(!gallery.contains("NaN") && !gallery.contains("inf"), "{gallery}");

        let diverged = candle_nn::func_t(|x, _| Tensor::full(f32::NAN, (x.dim(0)?, 10), x.device()));
        let evaluation = evaluate(&diverged, &DataLoader::new(&data, &Device::Cpu))?;
        let text = evaluation.view().text().to_string();
        assert!(text.contains("8 of 8 outputs are NaN or infinite"), "{text}");
        Ok(())
    }
}
