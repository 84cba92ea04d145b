//! Calibration: whether a network that is 90 % confident is right nine times out of ten.
//!
//! C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger: "On Calibration of Modern Neural Networks", ICML 2017
//! (<https://arxiv.org/abs/1706.04599>). A prediction's confidence is the probability of the
//! predicted class; bins are intervals of equal width that include their upper end.

use notebook_charts::{ReliabilityBin, numbers};
use std::fmt::{Display, Formatter};

use crate::error::{Error, Result};
use crate::evaluate::{Evaluation, Prediction};

/// A diagram can't show more.
const MOST_BINS: usize = 100;

/// Confidence and accuracy, bin by bin; made by [`Evaluation::calibration`].
///
/// ```
/// use cifar_lab::{calibration::Calibration, evaluate::Prediction};
/// let prediction = |class, probability| Prediction { index: 0, label: 1, predicted: Some(class), probability };
/// // Both have a confidence of 75 %, and one is right.
/// let calibration = Calibration::new(&[prediction(1, 0.75), prediction(0, 0.75)], 10)?;
/// assert_eq!((calibration.mean_confidence(), calibration.accuracy()), (0.75, 0.5));
/// assert_eq!(calibration.expected_error(), 0.25);
/// assert_eq!(calibration.bins()[7].images, 2);
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    bins: Vec<ReliabilityBin>,
    /// The data set's name, for titles.
    pub(crate) data: String,
}

impl Calibration {
    /// Sorts `predictions` into `bins` intervals of confidence; Guo et al. use 15.
    ///
    /// # Errors
    /// [`Error::Setting`] without predictions, for a prediction without a class, for 0 or more than 100 bins, and for a
    /// probability outside [0, 1].
    pub fn new(predictions: &[Prediction], bins: usize) -> Result<Self> {
        let wrong = |name, value: String, reason: &str| Err(Error::Setting { name, value, reason: reason.into() });
        if !(1..=MOST_BINS).contains(&bins) {
            return wrong("bins", bins.to_string(), "it must be from 1 to 100");
        }
        if predictions.is_empty() {
            return wrong("predictions", "0".into(), "a calibration needs at least one");
        }
        let unclassified = predictions.iter().filter(|prediction| prediction.predicted.is_none()).count();
        if unclassified > 0 {
            let reason = "the network's output for them is NaN or infinite, usually because training diverged; train again \
                          with a smaller learning rate, or leave them out";
            return wrong("predictions", format!("{unclassified} of {} without a class", predictions.len()), reason);
        }
        let mut sums = vec![(0_usize, 0.0, 0_usize); bins];
        for prediction in predictions {
            let confidence = f64::from(prediction.probability);
            if !(0.0..=1.0).contains(&confidence) {
                return wrong("probability", confidence.to_string(), "it must be from 0 to 1");
            }
            // An interval includes its upper end, and the first one also 0.
            let bin = ((confidence * bins as f64).ceil() as usize).saturating_sub(1).min(bins - 1);
            let (images, total, right) = &mut sums[bin];
            *images += 1;
            *total += confidence;
            *right += usize::from(prediction.is_right());
        }
        let edge = |index: usize| index as f64 / bins as f64;
        let bin = |(index, (images, total, right)): (usize, (usize, f64, usize))| ReliabilityBin {
            from: edge(index),
            to: edge(index + 1),
            images,
            confidence: total / images as f64,
            accuracy: right as f64 / images as f64,
        };
        Ok(Self { bins: sums.into_iter().enumerate().map(bin).collect(), data: String::new() })
    }

    /// The bins, from confidence 0 to 1.
    pub fn bins(&self) -> &[ReliabilityBin] {
        &self.bins
    }

    /// The number of predictions.
    fn images(&self) -> usize {
        self.bins.iter().map(|bin| bin.images).sum()
    }

    /// The mean of `value` over all predictions.
    fn mean(&self, value: impl Fn(&ReliabilityBin) -> f64) -> f64 {
        let filled = self.bins.iter().filter(|bin| bin.images > 0);
        filled.map(|bin| bin.images as f64 * value(bin)).sum::<f64>() / self.images() as f64
    }

    /// The expected calibration error (ECE) in [0, 1]: the distance between confidence and accuracy, averaged over the
    /// bins, weighted by their number of images.
    pub fn expected_error(&self) -> f64 {
        self.mean(|bin| (bin.accuracy - bin.confidence).abs())
    }

    /// The mean confidence of all predictions, in [0, 1]. Above [`Self::accuracy`] the network is overconfident.
    pub fn mean_confidence(&self) -> f64 {
        self.mean(|bin| bin.confidence)
    }

    /// The share of correct predictions, in [0, 1].
    pub fn accuracy(&self) -> f64 {
        self.mean(|bin| bin.accuracy)
    }
}

impl Evaluation {
    /// How often the network is right at each level of confidence, in `bins` intervals.
    ///
    /// # Errors
    /// Those of [`Calibration::new`].
    pub fn calibration(&self, bins: usize) -> Result<Calibration> {
        Ok(Calibration { data: self.data.clone(), ..Calibration::new(self.predictions(), bins)? })
    }
}

impl Display for Calibration {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} images: mean confidence {}, accuracy {}, expected calibration error {}",
            numbers::grouped(self.images() as u128),
            numbers::percent(self.mean_confidence()),
            numbers::percent(self.accuracy()),
            numbers::percent(self.expected_error())
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predictions(cases: &[(f32, bool)]) -> Vec<Prediction> {
        let prediction = |&(probability, right): &(f32, bool)| Prediction {
            index: 0,
            label: 1,
            predicted: Some(usize::from(right)),
            probability,
        };
        cases.iter().map(prediction).collect()
    }

    #[test]
    fn the_error_is_the_one_computed_by_hand() -> Result<()> {
        // Two bins, (0, 0.5] and (0.5, 1]. All these numbers are exact in f32.
        let cases = [(0.25, true), (0.5, false), (0.5, false), (0.75, true), (1.0, true), (0.75, false), (0.625, true)];
        let calibration = Calibration::new(&predictions(&cases), 2)?;
        let [low, high] = calibration.bins() else { panic!("two bins") };
        // Low: 3 images, mean confidence 1.25/3, accuracy 1/3. High: 4 images, 3.125/4, 3/4.
        assert_eq!((low.images, high.images), (3, 4));
        assert!((low.confidence - 1.25 / 3.0).abs() < 1e-12 && (low.accuracy - 1.0 / 3.0).abs() < 1e-12);
        assert!((high.confidence - 0.78125).abs() < 1e-12 && (high.accuracy - 0.75).abs() < 1e-12);
        // 3/7 · |1/3 − 1.25/3| + 4/7 · |3/4 − 3.125/4| = (0.25 + 0.125)/7
        assert!((calibration.expected_error() - 0.375 / 7.0).abs() < 1e-12, "{}", calibration.expected_error());
        assert!((calibration.mean_confidence() - 4.375 / 7.0).abs() < 1e-12);
        assert!((calibration.accuracy() - 4.0 / 7.0).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn ends_of_intervals_and_empty_bins() -> Result<()> {
        let calibration = Calibration::new(&predictions(&[(0.0, true), (0.25, true), (1.0, true)]), 4)?;
        let images: Vec<usize> = calibration.bins().iter().map(|bin| bin.images).collect();
        assert_eq!(images, [2, 0, 0, 1]);
        assert!(calibration.bins()[1].accuracy.is_nan());
        assert!((calibration.expected_error() - (2.0 * 0.875) / 3.0).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn impossible_settings_are_errors() {
        let refused =
            |cases: &[(f32, bool)], bins| Calibration::new(&predictions(cases), bins).unwrap_err().to_string();
        assert!(refused(&[], 10).contains("predictions = 0"));
        assert!(refused(&[(0.5, true)], 0).contains("bins = 0"));
        assert!(refused(&[(0.5, true)], 101).contains("bins = 101"));
        assert!(refused(&[(f32::NAN, true)], 10).contains("probability = NaN"));
        assert!(refused(&[(f32::NEG_INFINITY, true)], 10).contains("-inf"));
        let nothing = Prediction { index: 0, label: 1, predicted: None, probability: 0.0 };
        let error = Calibration::new(&[nothing], 15).unwrap_err().to_string();
        assert!(error.starts_with("predictions = 1 of 1 without a class is not possible: "), "{error}");
    }
}
