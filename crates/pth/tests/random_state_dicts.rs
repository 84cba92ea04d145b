//! Random state dicts survive a round trip.

use proptest::prelude::*;
use pth::{DType, Error, StateDict, Tensor};

fn tensor() -> impl Strategy<Value = Tensor<'static>> {
    let dtype = (0..DType::ALL.len()).prop_map(|index| DType::ALL[index]);
    (dtype, prop::collection::vec(0usize..7, 0..5)).prop_flat_map(|(dtype, shape)| {
        let length = shape.iter().product::<usize>() * dtype.size();
        prop::collection::vec(any::<u8>(), length)
            .prop_map(move |data| Tensor::new(dtype, shape.clone(), data).unwrap())
    })
}

fn state_dict() -> impl Strategy<Value = StateDict<'static>> {
    prop::collection::btree_map(any::<String>(), tensor(), 0..40).prop_map(|entries| {
        let mut state = StateDict::new();
        // Not sorted by name, so that a sorted map would fail.
        entries.into_iter().rev().for_each(|(name, tensor)| state.push(name, tensor));
        state
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn round_trip(state in state_dict()) {
        let mut file = Vec::new();
        state.write("net", &mut file).unwrap();
        prop_assert_eq!(StateDict::read(&file).unwrap(), state);
    }

    #[test]
    fn any_bytes_give_an_error_or_a_state_dict(mut bytes in prop::collection::vec(any::<u8>(), 0..400), start in 0..3) {
        let start: &[u8] = [&b""[..], b"PK\x03\x04", b"\x80\x02"][start as usize];
        bytes.splice(0..0, start.iter().copied());
        let _ = StateDict::read(&bytes);
    }
}

#[test]
fn many_tensors_and_a_large_one() {
    let mut state = StateDict::new();
    // More than 16 bits count, and more than one batch of Python's pickler.
    for index in 0..70_000u32 {
        let value = index.to_le_bytes().to_vec();
        state.push(format!("layer{index}.num_batches_tracked"), Tensor::new(DType::I32, vec![], value).unwrap());
    }
    state.push("large", Tensor::new(DType::U8, vec![3, 1 << 20], vec![1; 3 << 20]).unwrap());
    let mut file = Vec::new();
    state.write("net", &mut file).unwrap();
    assert_eq!(StateDict::read(&file).unwrap(), state);
}

#[test]
fn refuses_what_cannot_be_written() {
    let one = || Tensor::from_f32(&[], &[1.0]).unwrap();
    let mut state = StateDict::new();
    state.push("a", one());
    state.push("b", one());
    state.push("a", one());
    assert!(matches!(state.write("net", Vec::new()), Err(Error::DuplicateName { name }) if name == "a"));
    for name in ["", "a/b", &"long".repeat(51)] {
        assert!(matches!(StateDict::new().write(name, Vec::new()), Err(Error::ArchiveName { .. })), "{name}");
    }
    assert!(matches!(Tensor::new(DType::F32, vec![2, usize::MAX], vec![]), Err(Error::DataLength { .. })));
    let mut full = [0u8; 100];
    assert!(matches!(state_of_one().write("net", &mut full[..]), Err(Error::Write(_))));
}

fn state_of_one() -> StateDict<'static> {
    let mut state = StateDict::new();
    state.push("a", Tensor::from_f32(&[100], &[0.0; 100]).unwrap());
    state
}
