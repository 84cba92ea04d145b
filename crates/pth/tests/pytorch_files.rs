//! Files written by PyTorch and NumPy (`fixtures/make_fixtures.py`).

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
fn rewriting_a_file_reproduces_it() {
    let file = fixture("plain.pth");
    let state = StateDict::read(&file).unwrap();
    assert_eq!(state.len(), 32);
    let mut written = Vec::new();
    state.write("plain", &mut written).unwrap();
    assert_eq!(written.len(), file.len());
    // Except the first half of the fingerprint, which depends on PyTorch's C++ library, and its checksum (4 bytes each
    // after the record and in the directory).
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
fn reads_all_types() {
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
fn both_formats_and_a_later_protocol_read_the_same() {
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
    assert!(matches!(&error, Error::NoStateDict { found, .. } if found == "an integer"), "{error}");
    let error = StateDict::read_under(&file, &["ema"]).unwrap_err().to_string();
    assert!(error.starts_with("the file has no [\"ema\"]; it has"), "{error}");
    assert!(error.contains("epoch (an integer)") && error.contains("model_state_dict (a state dict)"), "{error}");
    let error = StateDict::read_under(&file, &["optimizer"]).unwrap_err();
    assert!(error.to_string().contains("param_groups") || error.to_string().contains("state"), "{error}");
    // Nothing quietly takes the place of a state dict that holds a number too.
    let file = fixture("averaged.pth");
    let error = StateDict::read(&file).unwrap_err();
    assert!(matches!(&error, Error::NotATensor { name, .. } if name == "logit_scale"), "{error}");
    assert_eq!(StateDict::read_under(&file, &["averaged"]).unwrap().len(), 2);
}

#[test]
fn files_without_checksums_are_read() {
    assert_eq!(StateDict::read(&fixture("without_checksums.pth")).unwrap().len(), 2);
}

#[test]
fn refuses_what_is_not_a_state_dict_and_names_it() {
    let refused = |name: &str| StateDict::read(&fixture(name)).unwrap_err();
    let error = refused("whole.pth");
    assert!(error.to_string().contains("torch.nn.modules.container.Sequential"), "{error}");
    assert!(error.to_string().contains("save model.state_dict() instead of the model"), "{error}");
    assert!(matches!(refused("script.pth"), Error::TorchScript));
    let error = refused("tensor.pth");
    assert!(matches!(&error, Error::NoStateDict { found, .. } if found == "a tensor"), "{error}");
    let error = refused("arrays.pickle").to_string();
    assert!(error.contains("a pickle of a dict, written by pickle.dump"), "{error}");
}

#[test]
fn other_byte_order() {
    // A little-endian file that claims to be big-endian: each element's bytes are reversed.
    let mut pickle = support::tensor_pickle(6, 1, &[2], &[1]);
    let storage: Vec<u8> = (0..24).collect();
    let file = support::zip(&[("data.pkl", &pickle), ("byteorder", b"big"), ("data/0", &storage)]);
    assert_eq!(StateDict::read(&file).unwrap().get("t").unwrap().data(), [7, 6, 5, 4, 11, 10, 9, 8]);
    let file = support::zip(&[("data.pkl", &pickle), ("byteorder", b"middle"), ("data/0", &storage)]);
    assert!(matches!(StateDict::read(&file), Err(Error::ByteOrder { .. })));
    // Without the record, as written before PyTorch 2.1.
    let file = support::zip(&[("data.pkl", &pickle), ("data/0", &storage)]);
    assert_eq!(StateDict::read(&file).unwrap().get("t").unwrap().data(), &storage[4..12]);
    pickle.extend(b"what follows the end is ignored");
    assert!(StateDict::read(&support::archive(&pickle)).is_ok());
    // The older format's elements are little-endian, even if a big-endian machine wrote them.
    let little = fixture("legacy.pth");
    let mut big = little.clone();
    let name = big.windows(13).position(|window| window == b"little_endian").unwrap();
    let flag = name + big[name..].iter().position(|&byte| byte == 0x88).unwrap();
    big[flag] = 0x89;
    assert_eq!(StateDict::read(&big).unwrap(), StateDict::read(&little).unwrap());
}

#[test]
fn the_python_layout_of_cifar10() {
    let file = fixture("data_batch");
    let pickle = Pickle::read(&file).unwrap();
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
    let pickle = Pickle::read(&file).unwrap();
    let array = |name: &str| pth::numpy::array(pickle.root().get(name).unwrap(), name).unwrap();
    assert_eq!(array("f4").data(), [0f32, 1., 2., 3., 4., 5.].map(f32::to_le_bytes).as_flattened());
    assert_eq!(array("column").data(), [0i16, 1, 2, 3, 4, 5].map(i16::to_le_bytes).as_flattened());
    assert_eq!(array("big").data(), [0i32, 1, 2].map(i32::to_le_bytes).as_flattened());
    assert_eq!((array("none").shape(), array("none").dtype()), (&[0, 3][..], DType::F64));
    let error = pth::numpy::array(pickle.root(), "all").unwrap_err();
    assert!(matches!(error, Error::Description { .. }), "{error}");
}

#[test]
fn skips_everything_but_the_weights() {
    // Schedulers, optimizers, namespaces, sets, bytes, NumPy scalars, sparse and complex tensors; an unusual key.
    let file = fixture("beside.pth");
    let state = StateDict::read(&file).unwrap();
    assert_eq!(state.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["weight", "bias"]);
    assert_eq!(floats(&state, "weight"), [0., 1., 2., 3., 4., 5.]);
    assert_eq!(StateDict::read_under(&file, &["net"]).unwrap(), state);
    let error = StateDict::read_under(&file, &["args"]).unwrap_err().to_string();
    assert_eq!(error, "[\"args\"] is an object of argparse.Namespace, expected a dict of tensors");
    let error = StateDict::read_under(&file, &["scheduler", "milestones"]).unwrap_err();
    assert!(matches!(error, Error::NotATensor { .. }), "{error}");
    // Holds other types, whose storages precede the weights'.
    let file = fixture("legacy_other_types.pth");
    assert_eq!(StateDict::read(&file).unwrap(), state);
}

#[test]
fn several_state_dicts_are_an_error() {
    let file = fixture("several.pth");
    let error = StateDict::read(&file).unwrap_err().to_string();
    let wanted =
        "the file has several state dicts: [\"generator\"], [\"discriminator\"][\"critic\"]; choose one by its keys";
    assert_eq!(error, wanted);
    assert_eq!(StateDict::read_under(&file, &["discriminator", "critic"]).unwrap().len(), 2);
    // A list's items have their index as key.
    let file = fixture("list.pth");
    assert_eq!(StateDict::read(&file).unwrap(), StateDict::read_under(&file, &["0"]).unwrap());
}

#[test]
fn advice_fits_what_was_found() {
    let refused = |name: &str| StateDict::read(&fixture(name)).unwrap_err().to_string();
    assert_eq!(
        refused("whole_inside.pth"),
        "the file's content is a dict, expected a dict of tensors; it holds epoch (an integer), model (an \
         object of torch.nn.modules.container.Sequential), history (a list): model is a whole module; in Python, save \
         model.state_dict() instead of model"
    );
    let whole = refused("whole_legacy.pth");
    assert!(whole.starts_with("the file's content is an object of __main__.Own"), "{whole}");
    assert!(
        whole.ends_with("this is a whole module; in Python, save model.state_dict() instead of the model"),
        "{whole}"
    );
    assert!(refused("optimizer.pth").ends_with("this is an optimizer's state; in Python, save model.state_dict()"));
    assert_eq!(refused("mixed.pth"), "epoch is an integer, expected a tensor");
}

#[test]
fn the_older_format_in_each_protocol() {
    let file = fixture("beside.pth");
    let state = StateDict::read(&file).unwrap();
    for protocol in [1, 3, 5] {
        let file = fixture(&format!("legacy{protocol}.pth"));
        assert!(pth::is_pth(&file[..16]));
        assert_eq!(StateDict::read(&file).unwrap(), state, "protocol {protocol}");
    }
}

#[test]
fn python_2_passed_the_entries_to_the_constructor() {
    let file = fixture("python2.pth");
    let state = StateDict::read(&file).unwrap();
    assert_eq!(floats(&state, "weight"), [0., 1., 2., 3., 4., 5.]);
    // A storage that is part of another.
    assert_eq!(floats(&state, "part"), [2., 3., 4.]);
}

#[test]
fn tensors_with_attributes_or_of_a_subclass() {
    let file = fixture("attributes.pth");
    let state = StateDict::read(&file).unwrap();
    for name in ["attributes", "parameter", "special", "buffer"] {
        assert_eq!(floats(&state, name), [0., 1., 2., 3., 4., 5.], "{name}");
    }
}

#[test]
fn unsupported_tensors_are_refused_by_name() {
    for (file, found, advice) in [
        ("complex64", "of type complex64", "torch.view_as_real(tensor)"),
        ("complex128", "of type complex128", "torch.view_as_real(tensor)"),
        ("complex32", "of type complex32", "torch.view_as_real(tensor)"),
        ("sparse", "a sparse tensor", "tensor.to_dense()"),
        ("csr", "a sparse tensor", "tensor.to_dense()"),
        ("quantized", "a quantized tensor", "tensor.dequantize()"),
        ("float8", "of type float8_e4m3fn", "tensor.float()"),
        ("uint16", "of type uint16", "tensor.float()"),
        ("uint64", "of type uint64", "tensor.float()"),
        ("meta", "a tensor without values (on the device meta)", "the tensor that has them"),
        ("neg", "a lazy view with the neg bit set", "tensor.clone()"),
    ] {
        let error = StateDict::read(&fixture(&format!("refused_{file}.pth"))).unwrap_err().to_string();
        assert_eq!(error, format!("t is {found}, which is not supported: in Python, save {advice} instead"));
    }
}

#[test]
fn other_files_are_recognized() {
    let refused = |file: &[u8]| StateDict::read(file).unwrap_err().to_string();
    for (file, found) in [
        (&b""[..], "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "`git lfs pull`"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"\x60\0\0\0\0\0\0\0{\"fc.bias\":", "a safetensors file"),
        // A header's length that starts like a pickle.
        (b"\x80\x02\0\0\0\0\0\0{\"fc.bias\":", "a safetensors file"),
        (b"\x89HDF\r\n\x1a\n", "Keras"),
        (b"GIF89a", "it starts with [47, 49, 46, 38, 39, 61]"),
    ] {
        assert!(!pth::is_pth(file));
        let error = refused(file);
        assert!(error.starts_with("not a file written by torch.save: ") && error.contains(found), "{error}");
    }
    let mut tar = vec![b'a'; 512];
    tar[257..262].copy_from_slice(b"ustar");
    assert!(refused(&tar).contains("a tar archive"));
}

#[test]
fn batches_of_cifar10_that_python_3_pickled() {
    let file = fixture("data_batch");
    let first = Pickle::read(&file).unwrap();
    let wanted = pth::numpy::array(first.root().get("data").unwrap(), "data").unwrap();
    for name in ["data_batch_protocol2", "data_batch_protocol5"] {
        let file = fixture(name);
        let pickle = Pickle::read(&file).unwrap();
        assert_eq!(pth::numpy::array(pickle.root().get("data").unwrap(), "data").unwrap(), wanted, "{name}");
        let labels = pickle.root().get("labels").unwrap().items().unwrap();
        assert_eq!(labels.map(pth::numpy::integer).collect::<Vec<_>>(), [6, 9, 9, 4].map(Some), "{name}");
    }
}

#[test]
fn module_versions() {
    let file = fixture("module.pth");
    let state = StateDict::read(&file).unwrap();
    // The second module is a batch norm, which has num_batches_tracked since version 2.
    assert_eq!(
        (state.module_version("0"), state.module_version("1"), state.module_version("2")),
        (Some(1), Some(2), None)
    );
}
