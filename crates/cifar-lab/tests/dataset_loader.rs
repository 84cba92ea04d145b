//! Batches: every picture once an epoch, in an order and with changes that depend on the seed alone.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use cifar_lab::candle_core::{DType, Device};
use cifar_lab::dataset::{Cifar10, Dataset, DatasetError, Source, Split};
use cifar_lab::loader::{Batch, DataLoader};
use cifar_lab::transform::{Normalize, RandomCrop, RandomHorizontalFlip};
use proptest::prelude::*;

/// `count` gray pictures of 2×3 pixels in which every pixel is different within the picture.
fn dataset(count: usize) -> Dataset {
    let pixels = (0..count * 6).map(|i| (i % 251) as u8).collect();
    let names = vec!["a".into(), "b".into(), "c".into()];
    let labels = (0..count as u32).map(|i| i * i % 3).collect();
    Dataset::new(Source::Named("test".into()), Split::Train, (1, 2, 3), names, pixels, labels).unwrap()
}

fn loader(count: usize) -> DataLoader {
    DataLoader::new(&dataset(count), &Device::Cpu)
}

fn batches(loader: &DataLoader, epoch: usize) -> Vec<Batch> {
    loader.epoch(epoch).collect::<Result<_, _>>().unwrap()
}

fn order(loader: &DataLoader, epoch: usize) -> Vec<usize> {
    batches(loader, epoch).into_iter().flat_map(|batch| batch.indices).collect()
}

fn values(batch: &Batch) -> Vec<f32> {
    batch.images.flatten_all().unwrap().to_vec1().unwrap()
}

fn same(a: &[Batch], b: &[Batch]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            let labels = |batch: &Batch| batch.labels.to_vec1::<u32>().unwrap();
            a.indices == b.indices && labels(a) == labels(b) && values(a) == values(b)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_picture_comes_once_an_epoch(count in 0usize..70, size in 1usize..40, seed: u64, epoch in 0usize..1000) {
        let data = dataset(count);
        let loader = DataLoader::new(&data, &Device::Cpu).batch_size(size).shuffle(seed);
        let batches = batches(&loader, epoch);
        prop_assert_eq!(batches.len(), loader.len());
        prop_assert_eq!(batches.len(), count.div_ceil(size));
        let mut seen: Vec<usize> = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            let expected = if number + 1 < batches.len() { size } else { count - number * size };
            prop_assert_eq!(batch.images.dims(), [expected, 1, 2, 3]);
            prop_assert_eq!((batch.images.dtype(), batch.labels.dtype()), (DType::F32, DType::U32));
            let labels = batch.labels.to_vec1::<u32>().unwrap();
            for (place, (&index, pixels)) in batch.indices.iter().zip(values(batch).chunks(6)).enumerate() {
                prop_assert_eq!(labels[place] as usize, data.label(index).unwrap());
                let expected: Vec<f32> = data.pixels(index).unwrap().iter().map(|&b| f32::from(b) / 255.0).collect();
                prop_assert_eq!(pixels, expected);
            }
            seen.extend(&batch.indices);
        }
        seen.sort();
        prop_assert_eq!(seen, (0..count).collect::<Vec<_>>());
    }

    #[test]
    fn drop_last_leaves_out_what_fills_no_batch(count in 0usize..70, size in 1usize..40) {
        let loader = loader(count).batch_size(size).shuffle(1);
        let (all, full) = (batches(&loader, 0), batches(&loader.clone().drop_last(true), 0));
        prop_assert_eq!(loader.clone().drop_last(true).len(), count / size);
        prop_assert!(full.iter().all(|batch| batch.indices.len() == size));
        prop_assert!(same(&full, &all[..count / size]));
    }

    #[test]
    fn where_it_begins_does_not_change_the_batches(
        count in 1usize..70, size in 1usize..20, seed: u64, first in 0usize..80,
    ) {
        let loader = loader(count)
            .batch_size(size)
            .shuffle(seed)
            .augment(RandomHorizontalFlip::default())
            .augment(RandomCrop { padding: 1 });
        let whole = batches(&loader, 3);
        let rest: Result<Vec<_>, _> = loader.epoch_from(3, first).collect();
        if first <= loader.len() {
            prop_assert!(same(&whole[first..], &rest.unwrap()));
        } else {
            assert!(matches!(rest, Err(DatasetError::FirstBatch { .. })));
        }
    }

    #[test]
    fn the_batch_size_does_not_change_what_happens_to_a_picture(size in 1usize..40, seed: u64) {
        let flipped = |size| {
            let loader = loader(40).batch_size(size).seed(seed).augment(RandomHorizontalFlip::default());
            batches(&loader, 2).iter().flat_map(values).collect::<Vec<f32>>()
        };
        prop_assert_eq!(flipped(size), flipped(7));
    }
}

#[test]
fn the_order_is_that_of_the_set_unless_shuffled() {
    let plain = loader(50).batch_size(8);
    assert_eq!(order(&plain, 0), (0..50).collect::<Vec<_>>());
    assert_eq!(order(&plain, 1), order(&plain, 0));
    let orders: HashSet<Vec<usize>> = (0..4)
        .flat_map(|seed| (0..4).map(move |epoch| order(&loader(50).batch_size(8).shuffle(seed), epoch)))
        .collect();
    assert_eq!(orders.len(), 16, "each seed and each epoch has its own order");
}

#[test]
fn random_changes_differ_between_epochs() {
    let loader = loader(64).batch_size(64).augment(RandomHorizontalFlip::default());
    assert!(same(&batches(&loader, 0), &batches(&loader, 0)));
    assert!(!same(&batches(&loader, 0), &batches(&loader, 1)));
    assert!(!same(&batches(&loader, 0), &batches(&loader.clone().seed(1), 0)));
}

#[test]
fn changes_happen_in_the_order_in_which_they_were_added_and_before_normalization() {
    // Always mirrored, and moved by as much as a crop of padding 1 moves.
    let plain = loader(40).batch_size(40).augment(RandomCrop { padding: 1 });
    let mirrored = plain.augment(RandomHorizontalFlip { p: 1.0 });
    let normalized = mirrored.normalize(&Normalize { mean: vec![0.25], std: vec![0.5] });
    let (plain, mirrored, normalized) =
        (values(&batches(&plain, 0)[0]), values(&batches(&mirrored, 0)[0]), values(&batches(&normalized, 0)[0]));
    for row in 0..40 * 2 {
        for column in 0..3 {
            let value = mirrored[row * 3 + column];
            assert_eq!(value, plain[row * 3 + 2 - column]);
            assert_eq!(normalized[row * 3 + column], (value - 0.25) / 0.5);
        }
    }
    assert!(normalized.contains(&-0.5), "the border is black before normalization");
}

#[test]
fn one_flip_after_another_is_drawn_anew() {
    // If both drew the same numbers, every picture would be as before.
    let flip = RandomHorizontalFlip::default();
    let once = loader(64).batch_size(64);
    let twice = once.augment(flip).augment(flip);
    assert!(!same(&batches(&once, 0), &batches(&twice, 0)));
}

#[test]
fn an_epoch_knows_how_many_batches_are_left() {
    let mut epoch = loader(10).batch_size(4).epoch(0);
    assert_eq!(epoch.len(), 3);
    epoch.next().unwrap().unwrap();
    assert_eq!(epoch.len(), 2);
    assert_eq!(epoch.by_ref().count(), 2);
    assert_eq!(epoch.len(), 0);
    assert!(epoch.next().is_none());
    assert!(loader(0).is_empty() && loader(0).epoch(0).next().is_none());
}

#[test]
fn settings_that_make_no_sense_are_the_only_item_of_an_epoch() {
    let wrong = [
        loader(10).batch_size(0),
        loader(10).normalize(&Normalize::default()),
        loader(10).normalize(&Normalize { mean: vec![0.0], std: vec![0.0] }),
        loader(10).augment(RandomHorizontalFlip { p: 1.5 }),
        loader(10).augment(RandomCrop { padding: 2 }),
        loader(10).augment(RandomCrop { padding: usize::MAX }),
    ];
    for loader in wrong {
        assert!(loader.check().is_err(), "{loader:?}");
        let mut epoch = loader.epoch(0);
        assert_eq!(epoch.len(), 1);
        assert!(epoch.next().unwrap().is_err(), "{loader:?}");
        assert!(epoch.next().is_none());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_thread_ends_with_its_epoch() {
    // The threads of this process by name; other tests run beside this one, so it looks for its own time only.
    let running = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.trim() == "batches").count()
    };
    let data = Cifar10::stand_in(0, 1000, 0).train;
    let loader = DataLoader::new(&data, &Device::Cpu).batch_size(4);
    let many: Vec<_> = (0..50)
        .map(|number| {
            let mut epoch = loader.epoch(number);
            epoch.next().unwrap().unwrap();
            epoch
        })
        .collect();
    assert!(running() >= 50, "{}", running());
    let begin = Instant::now();
    drop(many);
    assert!(running() < 25, "{} are left", running());
    assert!(begin.elapsed() < Duration::from_secs(5));
}
