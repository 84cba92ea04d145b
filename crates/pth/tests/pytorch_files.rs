//! Files that PyTorch and NumPy wrote (`fixtures/make_fixtures.py`).

mod support;

use pth::pickle::Pickle;
use pth::{DType, Error, StateDict};
use support::fixture;

fn floats(state: &StateDict, name: &str) -> Vec<f32> {
    let tensor = state.get(name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(tensor.dtype(), DType::F32);
    tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

#[test]
fn what_is_written_again_is_the_same_file() {
    let file = fixture("plain.pth");
    let state = StateDict::read(&file).unwrap();
    assert_eq!(state.len(), 32);
    let mut written = Vec::new();
    state.write("plain", &mut written).unwrap();
    assert_eq!(written.len(), file.len());
    // All but the first half of the fingerprint, whose hash is of PyTorch's C++ library, and its checksum (two times 4
    // bytes, behind the record and in the directory).
    let different: Vec<usize> = (0..file.len()).filter(|&at| file[at] != written[at]).collect();
    let name = b"plain/.data/serialization_id";
    let header = file.windows(name.len()).position(|window| window == name).unwrap();
    let record = (header + name.len()).next_multiple_of(64);
    assert!(different.iter().filter(|&&at| !(record..record + 20).contains(&at)).count() <= 8, "{different:?}");
    let in_order: Vec<&str> = state.iter().map(|(name, _)| name).collect();
    assert_eq!(in_order[..4], ["float32", "float32.one", "float32.none", "float64"]);
    assert_eq!(in_order[30..], ["größe.重み", "many"]);
}

#[test]
fn all_types_are_read() {
    let file = fixture("plain.pth");
    let state = StateDict::read(&file).unwrap();
    for dtype in DType::ALL {
        let tensor = state.get(&dtype.to_string()).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (dtype, &[2, 3][..]));
        assert_eq!(state.get(&format!("{dtype}.one")).unwrap().shape(), []);
        assert_eq!(state.get(&format!("{dtype}.none")).unwrap().shape(), [0, 4]);
    }
    assert_eq!(floats(&state, "float32"), [0., 1., 2., 3., 4., 5.]);
    // 1, 2 and 3 as halves: 3c00, 4000, 4200.
    assert_eq!(state.get("float16").unwrap().data()[2..8], [0, 0x3c, 0, 0x40, 0, 0x42]);
    assert_eq!(state.get("bool").unwrap().data(), [0, 1, 1, 1, 1, 1]);
}

#[test]
fn both_formats_and_a_later_protocol_hold_the_same() {
    let (new, old, later) = (fixture("module.pth"), fixture("legacy.pth"), fixture("protocol4.pth"));
    let state = StateDict::read(&new).unwrap();
    assert_eq!(state, StateDict::read(&old).unwrap());
    assert_eq!(state, StateDict::read(&later).unwrap());
    let names: Vec<&str> = state.iter().map(|(name, _)| name).collect();
    let of_batch_norm = ["1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"];
    assert_eq!(names[..2], ["0.weight", "0.bias"]);
    assert_eq!(names[2..], of_batch_norm);
}

#[test]
fn views_are_made_contiguous() {
    let plain = fixture("views_contiguous.pth");
    let plain = StateDict::read(&plain).unwrap();
    assert_eq!(floats(&plain, "column"), [2., 8., 14., 20.]);
    for name in ["views.pth", "views_legacy.pth"] {
        let file = fixture(name);
        assert_eq!(StateDict::read(&file).unwrap(), plain, "{name}");
    }
}

#[test]
fn a_checkpoint_is_searched_for_its_state_dict() {
    let file = fixture("checkpoint.pth");
    let state = StateDict::read(&file).unwrap();
    assert_eq!(state.len(), 7);
    let named = StateDict::read_under(&file, &["model_state_dict"]).unwrap();
    assert_eq!(state, named);
    let error = StateDict::read_under(&file, &["epoch"]).unwrap_err();
    assert!(matches!(error, Error::NoStateDict { found: "an integer", .. }), "{error}");
    let error = StateDict::read_under(&file, &["ema"]).unwrap_err();
    assert!(matches!(error, Error::NoStateDict { found: "not there", .. }), "{error}");
    let error = StateDict::read_under(&file, &["optimizer"]).unwrap_err();
    assert!(error.to_string().contains("param_groups") || error.to_string().contains("state"), "{error}");
}

#[test]
fn what_is_no_state_dict_is_refused_by_name() {
    let refused = |name: &str| StateDict::read(&fixture(name)).unwrap_err();
    let error = refused("whole.pth");
    assert!(matches!(&error, Error::Global { module, .. } if module.starts_with("torch.nn")), "{error}");
    assert!(matches!(refused("script.pth"), Error::TorchScript));
    let error = refused("tensor.pth");
    assert!(matches!(error, Error::NoStateDict { found: "a tensor", .. }), "{error}");
    let error = refused("arrays.pickle");
    assert!(matches!(error, Error::Global { .. } | Error::NoStateDict { .. }), "{error}");
}

#[test]
fn other_byte_order() {
    // A little-endian file that says it is big-endian: each element's bytes come reversed.
    let mut pickle = support::tensor_pickle(6, 1, &[2], &[1]);
    let storage: Vec<u8> = (0..24).collect();
    let file = support::zip(&[("data.pkl", &pickle), ("byteorder", b"big"), ("data/0", &storage)]);
    assert_eq!(StateDict::read(&file).unwrap().get("t").unwrap().data(), [7, 6, 5, 4, 11, 10, 9, 8]);
    let file = support::zip(&[("data.pkl", &pickle), ("byteorder", b"middle"), ("data/0", &storage)]);
    assert!(matches!(StateDict::read(&file), Err(Error::ByteOrder { .. })));
    // Without the record, as before PyTorch 2.1.
    let file = support::zip(&[("data.pkl", &pickle), ("data/0", &storage)]);
    assert_eq!(StateDict::read(&file).unwrap().get("t").unwrap().data(), &storage[4..12]);
    pickle.extend(b"what follows the end is not looked at");
    assert!(StateDict::read(&support::archive(&pickle)).is_ok());
}

#[test]
fn the_python_layout_of_cifar10() {
    let file = fixture("data_batch");
    let pickle = Pickle::read(&file, pth::numpy::GLOBALS).unwrap();
    let labels = pickle.root().get("labels").unwrap().items().unwrap();
    assert_eq!(labels.filter_map(|label| label.as_i64()).collect::<Vec<_>>(), [6, 9, 9, 4]);
    let data = pth::numpy::array(pickle.root().get("data").unwrap(), "data").unwrap();
    assert_eq!((data.dtype(), data.shape()), (DType::U8, &[4, 3072][..]));
    assert!(data.data().iter().enumerate().all(|(index, &byte)| byte == ((7 * index + 3) % 256) as u8));
    assert_eq!(pickle.root().get("batch_label").unwrap().as_text(), Some("training batch 1 of 5"));
    assert_eq!(pickle.length(), file.len());
}

#[test]
fn arrays_of_numpy_2() {
    let file = fixture("arrays.pickle");
    let pickle = Pickle::read(&file, pth::numpy::GLOBALS).unwrap();
    let array = |name: &str| pth::numpy::array(pickle.root().get(name).unwrap(), name).unwrap();
    assert_eq!(array("f4").data(), [0f32, 1., 2., 3., 4., 5.].map(f32::to_le_bytes).as_flattened());
    assert_eq!(array("column").data(), [0i16, 1, 2, 3, 4, 5].map(i16::to_le_bytes).as_flattened());
    assert_eq!(array("big").data(), [0i32, 1, 2].map(i32::to_le_bytes).as_flattened());
    assert_eq!((array("none").shape(), array("none").dtype()), (&[0, 3][..], DType::F64));
    let error = pth::numpy::array(pickle.root(), "all").unwrap_err();
    assert!(matches!(error, Error::Description { .. }), "{error}");
}
