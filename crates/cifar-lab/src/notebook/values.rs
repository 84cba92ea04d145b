//! How this crate's own types show themselves; those that keep their settings to themselves do it in their own files.

use super::show::Show;
use super::tensor::{Range, size, summary};
use crate::calibration::Calibration;
use crate::checkpoint::ModelCard;
use crate::dataset::{ChannelStatistics, Cifar10, Dataset};
use crate::evaluate::{ConfusionMatrix, Evaluation};
use crate::loader::Batch;
use crate::model::ForwardTrace;
use crate::training::{History, Progress, Training};
use crate::transform::Normalize;
use notebook_charts::{Table, View, text};

/// So many labels of a batch are shown.
const MOST_LABELS: usize = 12;

impl Show for Cifar10 {
    fn view(&self) -> View {
        let row = |set: &Dataset| {
            let (channels, height, width) = set.image_shape();
            let bytes = set.len() * set.image_length();
            let shape = format!("{channels} × {height} × {width}");
            [set.split().to_string(), text::grouped(set.len() as u128), shape, size(bytes)]
        };
        let table = Table::new(["part", "pictures", "shape", "in memory"]).row(row(&self.train)).row(row(&self.test));
        table.caption(self.train.name()).into()
    }
}

impl Show for Dataset {
    /// The classes with their numbers of pictures.
    fn view(&self) -> View {
        let header = ["label", "class", "pictures", "share"];
        let counts = self.class_counts();
        let rows = self.class_names().iter().zip(counts).enumerate();
        let table = rows.fold(Table::new(header), |table, (label, (name, count))| {
            let share = text::percent(count as f64 / self.len() as f64);
            table.row([label.to_string(), name.clone(), text::grouped(count as u128), share])
        });
        table.caption(self.to_string()).footer(["", "all", &text::grouped(self.len() as u128), ""]).into()
    }
}

/// A row for each channel of pictures: red, green and blue where there are three.
fn channels(mean: &[f32], std: &[f32]) -> Table {
    let names = if mean.len() == 3 { vec!["red", "green", "blue"] } else { vec![] };
    let number = |value: &f32| format!("{value:.4}");
    let rows = mean.iter().zip(std).enumerate();
    rows.fold(Table::new(["channel", "mean", "standard deviation"]), |table, (channel, (mean, std))| {
        let name = names.get(channel).map_or_else(|| format!("channel {channel}"), |name| name.to_string());
        table.row([name, number(mean), number(std)])
    })
}

impl Show for ChannelStatistics {
    fn view(&self) -> View {
        channels(&self.mean, &self.std).caption("Values from 0 to 1").into()
    }
}

impl Show for Normalize {
    fn view(&self) -> View {
        channels(&self.mean, &self.std).caption("Normalize: (value − mean) / standard deviation").into()
    }
}

impl Show for Batch {
    fn view(&self) -> View {
        let range =
            |range: Range| format!("from {} to {}", text::measured(range.least), text::measured(range.greatest));
        let values = Range::of(&self.images).map_or("–".to_string(), range);
        let first = |numbers: Vec<String>| {
            let more = if numbers.len() > MOST_LABELS { ", …" } else { "" };
            format!("{}{more}", numbers[..numbers.len().min(MOST_LABELS)].join(", "))
        };
        let labels = self.labels.to_vec1::<u32>().unwrap_or_default();
        Table::new(["a batch", "", "values"])
            .row(["images", &summary(&self.images), &values])
            .row(["labels", &summary(&self.labels), &first(labels.iter().map(u32::to_string).collect())])
            .row([
                "indices",
                "their numbers in the data set",
                &first(self.indices.iter().map(usize::to_string).collect()),
            ])
            .into()
    }
}

impl Show for ForwardTrace {
    fn view(&self) -> View {
        self.summary().into()
    }
}

impl Show for Progress {
    fn view(&self) -> View {
        View::line(self.to_string())
    }
}

impl Show for History {
    /// A row for each epoch.
    fn view(&self) -> View {
        let header =
            ["epoch", "training loss", "training accuracy", "test loss", "test accuracy", "learning rate", "time"];
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "–".to_string());
        let table = self.epochs.iter().fold(Table::new(header), |table, row| {
            table.row([
                row.epoch.to_string(),
                format!("{:.3}", row.train_loss),
                text::percent(row.train_accuracy),
                or_none(row.test_loss.map(|loss| format!("{loss:.3}"))),
                or_none(row.test_accuracy.map(text::percent)),
                or_none(row.learning_rate.map(text::measured)),
                format!("{:.1} s", row.seconds),
            ])
        });
        table.caption(if self.epochs.is_empty() { "no epoch has ended yet" } else { &self.data }).into()
    }
}

impl Show for Training {
    /// Where it stands, and a row for each epoch so far.
    fn view(&self) -> View {
        let (progress, history) = (self.progress(), self.history());
        if history.epochs.is_empty() { progress.view() } else { progress.view().above(history.view()) }
    }
}

impl Show for Evaluation {
    fn view(&self) -> View {
        View::tables(self.to_string(), &[self.confusion_matrix().per_class_table()])
    }
}

impl Show for ConfusionMatrix {
    fn view(&self) -> View {
        // A matrix that can't be drawn (of no class) is still a table.
        self.figure().map_or_else(|_| self.per_class_table().into(), View::from)
    }
}

impl Show for ModelCard {
    fn view(&self) -> View {
        let (channels, height, width) = self.image_shape;
        let Normalize { mean, std } = &self.normalize;
        let network = self.network.as_ref().map_or("not said".to_string(), |net| {
            let batch_norm = if net.batch_norm { "with" } else { "without" };
            format!("channels {:?}, dense {:?}, {batch_norm} batch norm", net.channels, net.dense)
        });
        let mut table = Table::new(["model card", ""])
            .row(["classes", &self.class_names.join(" ")])
            .row(["pictures", &format!("{channels} × {height} × {width}")])
            .row(["normalised with", &format!("mean {mean:?}, standard deviation {std:?}")])
            .row(["network", &network])
            .row(["trained on", &self.data])
            .row(["accuracy on its test images", &self.accuracy.map_or("–".into(), text::percent)]);
        for (name, value) in self.settings.as_object().into_iter().flatten() {
            table = table.row([name.clone(), value.to_string()]);
        }
        table.row(["written by cifar-lab", &self.version]).into()
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
    use crate::dataset::Cifar10;
    use crate::loader::DataLoader;
    use crate::training::EpochRecord;
    use candle_core::Device;

    #[test]
    fn each_shows_its_numbers_in_both_twins() {
        let data = Cifar10::stand_in(0, 40, 10);
        let loader = DataLoader::new(&data.train, &Device::Cpu).shuffle(3).normalize(&Normalize::default());
        let row = EpochRecord {
            epoch: 1,
            train_loss: 1.5,
            train_accuracy: 0.25,
            test_loss: None,
            test_accuracy: Some(0.5),
            learning_rate: None,
            seconds: 2.0,
            images_per_second: 20.0,
        };
        let history = History { epochs: vec![row], ..History::default() };
        let statistics = ChannelStatistics { mean: vec![0.5], std: vec![0.25] };
        for (view, wanted) in [
            (data.view(), ["stand-in (generated", "122.9 kB"]),
            (data.train.view(), ["10.0 %", "3×32×32"]),
            (loader.view(), ["from seed 3", "normalised with mean [0.5000, 0.5000, 0.5000]"]),
            (loader.first_batch().unwrap().view(), ["[32, 3, 32, 32] f32", ", …"]),
            (history.view(), ["25.0 %", "–"]),
            (History::default().view(), ["no epoch", "test loss"]),
            (statistics.view(), ["channel 0", "0.2500"]),
            (Normalize::default().view(), ["blue", "0.5000"]),
            (ModelCard { accuracy: Some(0.757), ..ModelCard::default() }.view(), ["plane car bird", "75.7 %"]),
        ] {
            roxmltree::Document::parse(view.content()).unwrap();
            for wanted in wanted {
                assert!(view.text().contains(wanted) && view.content().contains(wanted), "{wanted}: {}", view.text());
            }
        }
    }
}
