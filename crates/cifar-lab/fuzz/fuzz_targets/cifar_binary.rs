//! Arbitrary bytes as one of CIFAR-10's binary files.
#![no_main]

mod folder;

use cifar_lab::dataset::read_records;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    if read_records(folder::file("data_batch_1.bin", bytes), &mut pixels, &mut labels).is_ok() {
        assert_eq!(pixels.len(), 3072 * labels.len());
        assert!(labels.iter().all(|&label| label < 10));
    }
});
