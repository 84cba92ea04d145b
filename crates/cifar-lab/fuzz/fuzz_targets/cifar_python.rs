//! Arbitrary bytes as each of the pickles of CIFAR-10's Python layout.
#![no_main]

mod folder;

use cifar_lab::dataset::Cifar10;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let first = folder::file("data_batch_1", bytes);
    let parent = first.parent().expect("a folder");
    for name in ["data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"] {
        let path = parent.join(name);
        if !path.exists() {
            // The same bytes under six names.
            std::fs::hard_link(&first, path).expect("a link");
        }
    }
    if let Ok(data) = Cifar10::from_folder(parent) {
        assert_eq!(data.train.len(), 5 * data.test.len());
        assert!(data.test.labels().iter().all(|&label| label < 10));
    }
});
