//! Arbitrary bytes as a weights file with its card, and as a card beside a file.
#![no_main]

mod folder;

use cifar_lab::checkpoint::ModelCard;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = ModelCard::read(folder::file("a/weights.safetensors", bytes));
    folder::file("b/weights.json", bytes);
    let _ = ModelCard::read(folder::file("b/weights.pth", b"PK\x03\x04"));
});
