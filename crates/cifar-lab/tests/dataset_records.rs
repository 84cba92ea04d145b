//! The binary layout: what is written is read again, and what is wrong is an error that says where.

use std::fs;
use std::path::Path;

use cifar_lab::candle_core::Device;
use cifar_lab::dataset::{
    ArchiveSource, CIFAR10_CLASSES, Choice, Cifar10, Dataset, DatasetError, RECORD_LENGTH, Search, Source, Split,
    read_records,
};
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

const PIXELS: usize = RECORD_LENGTH - 1;

/// A record is a label, then the planes.
fn write_records(path: &Path, pixels: &[u8], labels: &[u8]) {
    let records = labels.iter().zip(pixels.chunks(PIXELS));
    fs::write(path, records.flat_map(|(label, pixels)| [&[*label], pixels].concat()).collect::<Vec<u8>>()).unwrap();
}

/// The six files, with `records` records each: the label is the record's number, the pixels the file's.
fn write_folder(folder: &Path, records: usize) {
    for file in 0..6u8 {
        let name = if file < 5 { format!("data_batch_{}.bin", file + 1) } else { "test_batch.bin".into() };
        let labels: Vec<u8> = (0..records).map(|i| (i % 10) as u8).collect();
        write_records(&folder.join(name), &vec![file; records * PIXELS], &labels);
    }
}

fn silent(_: &str) {}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_written_is_read_again(labels in vec(0u8..10, 1..8), seed in any::<u8>()) {
        let pixels: Vec<u8> = (0..labels.len() * PIXELS).map(|i| (i * 31) as u8 ^ (i >> 8) as u8 ^ seed).collect();
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("records.bin");
        write_records(&path, &pixels, &labels);
        let (mut read_pixels, mut read_labels) = (vec![1, 2], vec![9]);
        read_records(&path, &mut read_pixels, &mut read_labels).unwrap();
        prop_assert!(read_pixels[..2] == [1, 2] && read_pixels[2..] == pixels, "appended");
        prop_assert_eq!(&read_labels[1..], labels.into_iter().map(u32::from).collect::<Vec<_>>());
    }

    #[test]
    fn a_file_of_any_other_length_is_refused(records in 0u64..3, remainder in 1u64..RECORD_LENGTH as u64) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("odd.bin");
        let length = records * RECORD_LENGTH as u64 + remainder;
        fs::write(&path, vec![0; length as usize]).unwrap();
        let error = read_records(&path, &mut Vec::new(), &mut Vec::new()).unwrap_err();
        assert!(matches!(error, DatasetError::FileLength { length: l, remainder: r, .. } if (l, r) == (length, remainder)));
        let text = error.to_string();
        prop_assert!(text.contains("odd.bin") && text.contains(&length.to_string()) && text.contains(&remainder.to_string()));
    }

    #[test]
    fn a_label_above_nine_is_refused(record in 0usize..5, label in 10u8..) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("label.bin");
        let mut bytes = vec![0; 5 * RECORD_LENGTH];
        bytes[record * RECORD_LENGTH] = label;
        fs::write(&path, bytes).unwrap();
        let error = read_records(&path, &mut Vec::new(), &mut Vec::new()).unwrap_err();
        assert!(matches!(error, DatasetError::FileLabel { record: r, label: l, .. } if (r, l) == (record, label)));
        let text = error.to_string();
        assert!(text.contains("label.bin") && text.contains(&format!("record {record} ")) && text.contains(&label.to_string()));
    }
}

#[test]
fn the_folder_or_its_parent_is_read_in_the_published_order() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("cifar-10-batches-bin");
    fs::create_dir(&folder).unwrap();
    // More records than are read at once.
    write_folder(&folder, 1001);
    for path in [parent.path(), &folder] {
        let data = Cifar10::from_folder(path).unwrap();
        assert_eq!((data.train.len(), data.test.len()), (5005, 1001));
        assert_eq!((data.train.split(), data.test.split()), (Split::Train, Split::Test));
        assert_eq!(data.train.name(), "CIFAR-10");
        assert!(!data.train.is_stand_in());
        assert_eq!(data.train.class_names(), CIFAR10_CLASSES);
        for (index, file) in [(0, 0), (1000, 0), (1001, 1), (4004, 4), (5004, 4)] {
            assert_eq!(data.train.pixels(index).unwrap(), [file; PIXELS]);
            assert_eq!(data.train.label(index).unwrap(), (index % 1001) % 10);
        }
        assert_eq!(data.test.pixels(1000).unwrap(), [5; PIXELS]);
    }
}

#[test]
fn a_missing_folder_or_file_is_named() {
    let folder = TempDir::new().unwrap();
    let absent = folder.path().join("absent");
    let error = Cifar10::from_folder(&absent).unwrap_err();
    assert!(matches!(&error, DatasetError::MissingFolder(path) if *path == absent), "{error}");

    let file = folder.path().join("data_batch_4.bin");
    write_folder(folder.path(), 2);
    fs::remove_file(&file).unwrap();
    let error = Cifar10::from_folder(folder.path()).unwrap_err();
    assert!(matches!(&error, DatasetError::MissingFile(path) if *path == file), "{error}");
    let error = read_records(&file, &mut Vec::new(), &mut Vec::new()).unwrap_err();
    assert!(matches!(&error, DatasetError::MissingFile(path) if *path == file), "{error}");
}

#[test]
fn an_empty_file_and_a_folder_for_a_file_are_errors() {
    let folder = TempDir::new().unwrap();
    write_folder(folder.path(), 2);
    let file = folder.path().join("test_batch.bin");
    fs::write(&file, "").unwrap();
    let error = Cifar10::from_folder(folder.path()).unwrap_err();
    assert!(matches!(&error, DatasetError::EmptyFile(path) if *path == file), "{error}");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let error = Cifar10::from_folder(folder.path()).unwrap_err();
    assert!(error.to_string().contains("test_batch.bin"), "{error}");
}

#[test]
fn a_wrong_cifar10_dir_is_never_replaced_by_the_stand_in() {
    let folder = TempDir::new().unwrap();
    for choice in [Choice::Either, Choice::Cifar10] {
        let search = Search {
            folder: Some(folder.path().join("absent")),
            cache: None,
            archive: ArchiveSource::published(),
            choice,
        };
        let error = search.load(&mut silent).unwrap_err();
        assert!(matches!(error, DatasetError::MissingFolder(_)), "{error}");
    }
}

#[test]
fn a_folder_that_is_right_is_reported_in_a_line() {
    let folder = TempDir::new().unwrap();
    write_folder(folder.path(), 2);
    let search = Search {
        folder: Some(folder.path().into()),
        cache: None,
        archive: ArchiveSource::published(),
        choice: Choice::Either,
    };
    let mut lines = Vec::new();
    search.load(&mut |line| lines.push(line.to_string())).unwrap();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("CIFAR-10: 10 ") && lines[0].contains(&folder.path().display().to_string()));
}

#[test]
fn parts_that_do_not_fit_are_errors() {
    let new = |shape, pixels: usize, labels: Vec<u32>| {
        let names = vec!["a".into(), "b".into()];
        Dataset::new(Source::Named("test".into()), Split::Test, shape, names, vec![0; pixels], labels)
    };
    assert!(new((1, 2, 3), 12, vec![0, 1]).is_ok());
    let error = new((1, 2, 3), 11, vec![0, 1]).unwrap_err();
    assert!(matches!(error, DatasetError::PixelCount { expected: 12, found: 11, .. }), "{error}");
    let error = new((1, 2, 3), 12, vec![0, 2]).unwrap_err();
    assert!(matches!(error, DatasetError::Label { index: 1, label: 2, classes: 2 }), "{error}");
    assert!(matches!(new((1, 0, 3), 0, vec![0]), Err(DatasetError::NoPixels(1, 0, 3))));
    assert!(matches!(new((usize::MAX, 2, 2), 4, vec![0]), Err(DatasetError::PixelCount { .. })));
}

/// Five gray pictures of 2×1 pixels: picture i has the pixels 10 i and 10 i + 1, and the label i % 2.
fn five() -> Dataset {
    let pixels = (0..5).flat_map(|i| [10 * i, 10 * i + 1]).collect();
    let names = vec!["even".into(), "odd".into()];
    let labels = (0..5).map(|i| i % 2).collect();
    Dataset::new(Source::Named("five".into()), Split::Train, (1, 1, 2), names, pixels, labels).unwrap()
}

fn first_pixels(set: &Dataset) -> Vec<u8> {
    (0..set.len()).map(|index| set.pixels(index).unwrap()[0]).collect()
}

#[test]
fn parts_of_a_set_hold_what_was_asked_for() {
    let five = five();
    let (head, tail) = five.split_at(3).unwrap();
    assert_eq!((first_pixels(&head), first_pixels(&tail)), (vec![0, 10, 20], vec![30, 40]));
    assert_eq!(first_pixels(&tail.first(1).unwrap()), [30]);
    let subset = tail.subset(&[1, 0, 1]).unwrap();
    assert_eq!((first_pixels(&subset), subset.labels()), (vec![40, 30, 40], vec![0, 1, 0]));
    assert_eq!(first_pixels(&subset.split_at(1).unwrap().1), [30, 40]);
    assert_eq!((five.class_counts(), subset.class_counts()), (vec![3, 2], vec![2, 1]));
    assert!(five.first(0).unwrap().is_empty());
    assert_eq!(five.first(5).unwrap().len(), 5);
    assert_eq!(format!("{five:?}"), "Dataset(five, train: 5 images of 1×1×2 in 2 classes)");

    assert!(five.gallery(usize::MAX).unwrap_err().to_string().contains("the set has 5"));
    assert!(matches!(five.first(6), Err(DatasetError::Count { asked: 6, length: 5 })));
    assert!(matches!(tail.subset(&[2]), Err(DatasetError::Index { index: 2, length: 2 })));
    assert!(matches!(head.pixels(3), Err(DatasetError::Index { index: 3, length: 3 })));
    assert!(matches!(head.label(usize::MAX), Err(DatasetError::Index { .. })));
    assert!(matches!(tail.pixels(usize::MAX), Err(DatasetError::Index { .. })));
    assert!(matches!(five.tensor(3..6, &Device::Cpu), Err(DatasetError::Range { length: 5, .. })));
    #[expect(clippy::reversed_empty_ranges, reason = "the error is what is tested")]
    let reversed = five.tensor(3..2, &Device::Cpu);
    assert!(matches!(reversed, Err(DatasetError::Range { .. })));
}

#[test]
fn tensors_hold_the_pixels_from_nought_to_one() {
    let five = five();
    let tensor = five.tensor(1..3, &Device::Cpu).unwrap();
    assert_eq!(tensor.dims(), [2, 1, 1, 2]);
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(values, [10.0 / 255.0, 11.0 / 255.0, 20.0 / 255.0, 21.0 / 255.0]);
}

#[test]
fn channel_statistics_are_those_of_a_plain_sum() {
    let data = Cifar10::stand_in(0, 50, 0).train.subset(&[40, 3, 3, 17]).unwrap();
    let statistics = data.channel_statistics();
    for channel in 0..3 {
        let values: Vec<f64> = (0..data.len())
            .flat_map(|i| data.pixels(i).unwrap()[channel * 1024..(channel + 1) * 1024].to_vec())
            .map(|byte| f64::from(byte) / 255.0)
            .collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        assert!((f64::from(statistics.mean[channel]) - mean).abs() < 1e-6);
        assert!((f64::from(statistics.std[channel]) - variance.sqrt()).abs() < 1e-6);
    }
}

#[test]
fn images_have_the_channels_as_colors() {
    let pixels = vec![1, 2, 11, 12, 21, 22];
    let names = vec!["one".into()];
    let set = |shape, pixels, count| {
        Dataset::new(Source::Named("t".into()), Split::Test, shape, names.clone(), pixels, vec![0; count]).unwrap()
    };
    let color = set((3, 1, 2), pixels.clone(), 1).image(0).unwrap();
    assert_eq!((color.dimensions(), color.as_raw().as_slice()), ((2, 1), [1, 11, 21, 2, 12, 22].as_slice()));
    let gray = set((1, 3, 2), pixels.clone(), 1).image(0).unwrap();
    assert_eq!((gray.dimensions(), &gray.as_raw()[..6]), ((2, 3), [1, 1, 1, 2, 2, 2].as_slice()));
    assert!(matches!(set((2, 3, 1), pixels, 1).image(0), Err(DatasetError::Channels(2))));
}

#[test]
fn the_stand_in_is_balanced_and_says_what_it_is() {
    let data = Cifar10::stand_in(5, 200, 33);
    assert_eq!(data.train.class_counts(), [20; 10]);
    assert!(data.test.class_counts().iter().all(|count| (3..=4).contains(count)));
    for text in [data.to_string(), data.train.to_string(), format!("{:?}", data.test)] {
        assert!(text.contains("stand-in (generated images, not CIFAR-10)"), "{text}");
    }
    assert!(data.train.class_names().iter().all(|name| !CIFAR10_CLASSES.contains(&name.as_str())));
}
