//! Arbitrary bytes as the two files of a training's record, separated by the first zero byte.
#![no_main]

mod folder;

use cifar_lab::run_records::RunRecord;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let training = folder::file("training.json", &bytes[..end]);
    folder::file("epochs.jsonl", bytes.get(end + 1..).unwrap_or_default());
    if let Ok(record) = RunRecord::read(training.parent().expect("a folder")) {
        assert!(record.rows.windows(2).all(|rows| rows[0].epoch < rows[1].epoch));
        let _ = (record.test_accuracy(), record.history().figure());
    }
});
