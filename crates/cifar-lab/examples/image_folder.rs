//! Our half of `tests/with_torchvision.py`: `cargo run --example image_folder FOLDER…`. A line of JSON for each folder:
//! the classes, and the labels and pixels [N, 3, 32, 32] of `train`; or the error.

use cifar_lab::dataset::ImageFolder;
use serde_json::json;

fn main() {
    for folder in std::env::args_os().skip(1) {
        let line = match ImageFolder::open(&folder) {
            Ok(data) => {
                let pixels: Vec<_> = (0..data.train.len()).filter_map(|index| data.train.pixels(index).ok()).collect();
                json!({ "classes": data.train.class_names(), "labels": data.train.labels(), "pixels": pixels })
            }
            Err(error) => json!({ "error": error.to_string() }),
        };
        println!("{line}");
    }
}
