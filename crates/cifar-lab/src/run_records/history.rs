//! What a training run records: a row every few steps and one per epoch.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Means over the steps since the previous record.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The position in epochs: 1.5 is the middle of the second epoch.
    #[serde(with = "any_number")]
    pub epoch: f64,
    /// Mean training loss (cross entropy, in nats).
    #[serde(with = "any_number")]
    pub loss: f64,
    /// Training accuracy over these steps, in [0, 1], while the network was still changing.
    #[serde(with = "any_number")]
    pub accuracy: f64,
}

/// One epoch's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Mean training loss of the epoch (cross entropy, in nats).
    #[serde(with = "any_number")]
    pub train_loss: f64,
    /// Training accuracy during the epoch, in [0, 1].
    #[serde(with = "any_number")]
    pub train_accuracy: f64,
    /// Mean loss on the test images after the epoch, if they were evaluated.
    #[serde(with = "any_number")]
    pub test_loss: Option<f64>,
    /// Accuracy on the test images after the epoch, in [0, 1], if they were evaluated.
    #[serde(with = "any_number")]
    pub test_accuracy: Option<f64>,
    /// Learning rate at the end of the epoch, if known.
    #[serde(with = "any_number")]
    pub learning_rate: Option<f64>,
    /// Duration of the epoch in seconds, including evaluation, excluding pauses.
    #[serde(with = "any_number")]
    pub seconds: f64,
    /// Training speed in images per second, excluding evaluation and pauses.
    #[serde(with = "any_number")]
    pub images_per_second: f64,
}

/// Everything recorded so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The name of the data set trained on; empty if the plan has none.
    pub data: String,
    /// A row every few steps.
    pub steps: Vec<StepRecord>,
    /// A row for every epoch.
    pub epochs: Vec<EpochRecord>,
}

/// Numbers in JSON, which has neither NaN nor infinities: those are written as text, and `null`, which serde_json would
/// write for them, is read as NaN.
mod any_number {
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(f64),
        /// `NaN`, `inf` or `-inf`, as Rust writes and reads them.
        Text(String),
        Null,
    }

    impl From<f64> for Written {
        fn from(value: f64) -> Self {
            if value.is_finite() { Self::Number(value) } else { Self::Text(value.to_string()) }
        }
    }

    /// A field's type: a required number or an optional one.
    pub(super) trait Field: Copy {
        fn number(self) -> Option<f64>;
        fn from_number(number: Option<f64>) -> Self;
    }

    impl Field for f64 {
        fn number(self) -> Option<f64> {
            Some(self)
        }
        fn from_number(number: Option<f64>) -> Self {
            number.unwrap_or(f64::NAN)
        }
    }

    impl Field for Option<f64> {
        fn number(self) -> Option<f64> {
            self
        }
        fn from_number(number: Option<f64>) -> Self {
            number
        }
    }

    pub(super) fn serialize<S: Serializer>(field: &impl Field, serializer: S) -> Result<S::Ok, S::Error> {
        field.number().map_or(Written::Null, Written::from).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, F: Field>(deserializer: D) -> Result<F, D::Error> {
        let number = match Written::deserialize(deserializer)? {
            Written::Number(number) => Some(number),
            Written::Text(text) => Some(text.parse().map_err(serde::de::Error::custom)?),
            Written::Null => None,
        };
        Ok(F::from_number(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_back_whatever_its_numbers_are() {
        let row = EpochRecord {
            epoch: 3,
            train_loss: f64::NAN,
            train_accuracy: 0.25,
            test_loss: Some(f64::NAN),
            test_accuracy: Some(0.5),
            learning_rate: None,
            seconds: 1.5,
            images_per_second: f64::INFINITY,
        };
        let text = serde_json::to_string(&row).unwrap();
        assert!(text.contains(r#""train_loss":"NaN","train_accuracy":0.25,"test_loss":"NaN""#), "{text}");
        let read: EpochRecord = serde_json::from_str(&text).unwrap();
        assert!(read.train_loss.is_nan() && read.test_loss.is_some_and(f64::is_nan), "{read:?}");
        assert_eq!((read.train_accuracy, read.test_accuracy, read.learning_rate), (0.25, Some(0.5), None));
        assert_eq!((read.seconds, read.images_per_second), (1.5, f64::INFINITY));
        // As older records have them.
        let old = text.replace(r#""NaN""#, "null").replace(r#""inf""#, "null");
        let read: EpochRecord = serde_json::from_str(&old).unwrap();
        assert!(read.train_loss.is_nan() && read.images_per_second.is_nan() && read.test_loss.is_none(), "{read:?}");
        assert!(serde_json::from_str::<EpochRecord>(&text.replace(r#""inf""#, r#""fast""#)).is_err());
    }
}
