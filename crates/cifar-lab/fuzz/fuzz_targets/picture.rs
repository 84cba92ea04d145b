//! Arbitrary bytes as a picture in a folder of pictures.
#![no_main]

mod folder;

use cifar_lab::dataset::ImageFolder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let endings = ["png", "jpg", "bmp", "webp", "gif"];
    let ending = endings[bytes.first().map_or(0, |&byte| usize::from(byte) % endings.len())];
    let path = folder::file(&format!("{ending}/train/cat/1.{ending}"), bytes);
    let root = path.ancestors().nth(3).expect("a folder");
    folder::file(&format!("{ending}/test/cat/1.{ending}"), bytes);
    if let Ok(data) = ImageFolder::open(root) {
        assert_eq!(data.train.len(), 1);
    }
});
