//! A process that is killed while it saves leaves the old file or the new one.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use candle_cnn::parameters::Parameters;
use cifar_lab::candle_core::{Device, Result, Tensor};
use cifar_lab::checkpoint::{ModelCard, load_pth, load_safetensors, save_pth, save_safetensors};

/// The folder that the child saves into; without it the child's test has nothing to do.
const FOLDER: &str = "CIFAR_LAB_TEST_SAVES_INTO";
/// Enough that a kill hits each stage of a save: making, writing, syncing, renaming.
const KILLS: usize = 60;

/// 1 MiB of weights, all `value`.
fn weights(value: f32) -> Result<Parameters> {
    let parameters = Parameters::new(0);
    parameters.var_builder(&Device::Cpu).get((512, 512), "fc.weight")?;
    let weight = parameters.named().remove(0).1;
    weight.set(&Tensor::full(value, (512, 512), &Device::Cpu)?)?;
    Ok(parameters)
}

#[test]
fn child_saves_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    for save in 0.. {
        let parameters = weights(save as f32).unwrap();
        let card = ModelCard { accuracy: Some(f64::from(save)), ..ModelCard::default() };
        save_pth(&parameters, folder.join("net.pth"), &card).unwrap();
        save_safetensors(&parameters, folder.join("net.safetensors"), &card).unwrap();
    }
}

/// The one value that all of the loaded weights have.
fn only_value(parameters: &Parameters) -> Result<f32> {
    let values = parameters.named()[0].1.flatten_all()?.to_vec1::<f32>()?;
    assert!(values.iter().all(|&value| value == values[0]), "weights of two saves in one file");
    Ok(values[0])
}

#[test]
fn a_kill_at_any_moment_leaves_whole_files() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (pth, safetensors) = (folder.path().join("net.pth"), folder.path().join("net.safetensors"));
    let mut cut_saves = 0;
    for kill in 0..KILLS {
        let before = std::fs::metadata(&safetensors).and_then(|file| file.modified()).ok();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_saves_until_it_is_killed"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while std::fs::metadata(&safetensors).and_then(|file| file.modified()).ok() == before {
            assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Another moment each time; 37 steps through 101 before any comes again.
        std::thread::sleep(Duration::from_micros((kill as u64 * 37 % 101) * 100));
        child.kill().unwrap();
        child.wait().unwrap();

        let loaded = weights(-1.0)?;
        load_pth(&loaded, &pth).unwrap();
        only_value(&loaded)?;
        load_safetensors(&loaded, &safetensors).unwrap();
        let saved = only_value(&loaded)?;
        assert!(saved >= 0.0);
        // In one file weights and card are of one save.
        assert_eq!(ModelCard::read(&safetensors).unwrap().accuracy, Some(f64::from(saved)));
        assert!(ModelCard::read(&pth).unwrap().accuracy.is_some());
        // What a killed save leaves beside them has no name that is looked for.
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            if !["net.pth", "net.json", "net.safetensors"].contains(&&*name) {
                assert!(name.starts_with(".tmp"), "{name}");
                std::fs::remove_file(&path).unwrap();
                cut_saves += 1;
            }
        }
    }
    assert!(cut_saves > 0, "no kill hit a save: the test says nothing");
    Ok(())
}
