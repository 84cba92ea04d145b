//! Hostile and damaged files: an error, quickly, and within the memory limit.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use pth::pickle::Pickle;
use pth::{Error, MEMORY_FLOOR, StateDict};
use support::{archive, fixture, tensor, tensor_pickle, views_pickle, zip};

/// Counts the bytes this thread holds, and their maximum.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: every call is forwarded to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: `layout` is the caller's, who upholds `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: `pointer` came from `System.alloc` with this `layout`: `alloc` above is the only source.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Reads the file and checks the memory and time it took.
fn read(file: &[u8]) -> Result<usize, Error> {
    HELD.set(0);
    MOST.set(0);
    let start = Instant::now();
    let result = StateDict::read(file);
    let (most, time) = (MOST.get() as usize, start.elapsed());
    assert!(most <= 2 * file.len() + MEMORY_FLOOR, "{most} bytes for a file of {}", file.len());
    // The worst case is a one-byte instruction that makes a tuple: its slot, room for four values, and reallocation.
    assert!(most <= 128 * file.len() + (1 << 16), "{most} bytes for a file of {}", file.len());
    // Generous: the machine may be busy.
    assert!(time < Duration::from_secs(20), "{time:?} for {} bytes", file.len());
    result.map(|state| state.len())
}

#[test]
fn truncated_at_each_byte() {
    for name in ["plain.pth", "views.pth", "legacy.pth", "checkpoint.pth"] {
        let file = fixture(name);
        for length in 0..file.len() {
            assert!(read(&file[..length]).is_err(), "{name} truncated at {length}");
        }
    }
}

#[test]
fn truncated_at_each_record() {
    let file = fixture("module.pth");
    let mut boundaries = 0;
    for at in 0..file.len() - 4 {
        if file[at..].starts_with(b"PK") {
            boundaries += 1;
            assert!(read(&file[..at]).is_err());
            // The rest alone has a directory, but its positions are wrong.
            assert!(at == 0 || read(&file[at..]).is_err());
        }
    }
    // 13 records with a header, a directory entry and a descriptor each, and three end records.
    assert_eq!(boundaries, 3 * 13 + 3);
}

#[test]
fn a_changed_byte_never_panics() {
    for name in ["module.pth", "legacy.pth"] {
        let file = fixture(name);
        let mut damaged = file.clone();
        for at in 0..file.len() {
            for value in [0, 0xff, file[at] ^ 1, file[at] ^ 0x80] {
                damaged[at] = value;
                let _ = read(&damaged);
            }
            damaged[at] = file[at];
        }
    }
}

#[test]
fn a_changed_record_is_detected() {
    let mut file = archive(&tensor_pickle(6, 0, &[6], &[1]));
    assert_eq!(read(&file).unwrap(), 1);
    let at = file.windows(24).position(|window| window == [7; 24]).unwrap();
    file[at] = 8;
    assert!(matches!(read(&file), Err(Error::Checksum { record, .. }) if record == "data/0"));
}

#[test]
fn invalid_views_of_a_storage() {
    let outside = |pickle: Vec<u8>| read(&archive(&pickle)).unwrap_err();
    for (offset, shape, strides) in [
        (0, &[7][..], &[1][..]),
        (6, &[1], &[1]),
        (7, &[0, 1], &[1, 1]),
        (0, &[2], &[6]),
        (i32::MAX, &[1], &[1]),
        (0, &[i32::MAX; 3], &[i32::MAX; 3]),
        (0, &[i32::MAX; 64], &[0; 64]),
    ] {
        let result = read(&archive(&tensor_pickle(6, offset, shape, strides)));
        // A tensor without elements is nowhere out of bounds.
        let nowhere = shape.contains(&0);
        assert!(nowhere || matches!(result, Err(Error::OutsideStorage { .. })), "{shape:?}: {result:?}");
    }
    assert!(matches!(outside(tensor_pickle(6, -1, &[1], &[1])), Error::Description { .. }));
    assert!(matches!(outside(tensor_pickle(6, 0, &[-1], &[1])), Error::Description { .. }));
    assert!(matches!(outside(tensor_pickle(6, 0, &[1], &[-1])), Error::Description { .. }));
    assert!(matches!(outside(tensor_pickle(6, 0, &[1], &[])), Error::Description { .. }));
    assert!(matches!(outside(tensor_pickle(6, 0, &[1; 65], &[1; 65])), Error::Description { .. }));
    assert!(matches!(outside(tensor_pickle(7, 0, &[1], &[1])), Error::StorageLength { .. }));
    assert!(matches!(outside(tensor_pickle(i32::MAX, 0, &[1], &[1])), Error::StorageLength { .. }));
    // One element repeated two billion times.
    assert!(matches!(outside(tensor_pickle(6, 0, &[i32::MAX], &[0])), Error::Memory { .. }));
    assert!(matches!(outside(tensor_pickle(6, 0, &[1 << 20, 1 << 20], &[0, 0])), Error::Memory { .. }));
}

#[test]
fn identical_views_are_copied_once() {
    // Transposed, so a copy is needed: 24 bytes in total, not per tensor.
    let file = archive(&views_pickle(6, [0; 3], &[3, 2], &[1, 3]));
    let state = StateDict::read(&file).unwrap();
    let places: Vec<*const u8> = state.iter().map(|(_, tensor)| tensor.data().as_ptr()).collect();
    assert_eq!(places, [places[0]; 3]);
}

#[test]
fn many_large_views_of_one_storage_are_refused() {
    let storage = vec![0; 4 << 20];
    let elements = (storage.len() / 4) as i32;
    // Each view is nearly the whole storage and borrowed, but a caller that copies them would run out of memory.
    let pickle = views_pickle(elements, 0..400, &[elements - 1000], &[1]);
    let file = zip(&[("data.pkl", &pickle), ("data/0", &storage)]);
    assert!(matches!(read(&file), Err(Error::Memory { .. })));
}

#[test]
fn invalid_archives() {
    let pickle = tensor_pickle(6, 0, &[6], &[1]);
    let missing = |records: &[(&str, &[u8])]| match read(&zip(records)) {
        Err(Error::MissingRecord { record }) => record,
        other => panic!("{other:?}"),
    };
    assert_eq!(missing(&[("version", b"3\n")]), "data.pkl");
    assert_eq!(missing(&[("data.pkl", &pickle)]), "data/0");
    assert!(matches!(read(&zip(&[("a", b""), ("a", b"")])), Err(Error::DuplicateRecord { .. })));
    assert!(matches!(read(b"PK\x05\x06"), Err(Error::NoDirectory)));
    let good = archive(&pickle);
    let directory = good.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        read(&file).unwrap_err()
    };
    // A zip bomb: a few bytes claimed to unpack to gigabytes.
    assert!(matches!(with(directory + 10, &[8, 0]), Error::Compressed { method: 8, .. }));
    assert!(matches!(with(directory + 8, &[1, 0]), Error::Encrypted { .. }));
    assert!(matches!(with(directory + 24, &[0xff; 4]), Error::Signature { .. }));
    assert!(matches!(with(directory + 42, &[9, 0, 0, 0]), Error::Signature { .. }));
    assert!(matches!(with(directory + 42, &[0xff; 4]), Error::Truncated { .. }));
    assert!(matches!(with(directory, b"PKxx"), Error::Signature { .. }));
    let end = good.len() - 22;
    assert!(matches!(with(end + 16, &[0xfe; 4]), Error::Truncated { .. }));
    assert!(matches!(with(end + 10, &[0xfe; 2]), Error::Signature { .. } | Error::Truncated { .. }));
    // The 64-bit record is missing.
    assert!(matches!(with(end + 10, &[0xff; 2]), Error::Signature { .. }));
}

#[test]
fn a_directory_with_many_entries_for_one_place() {
    // A bomb without compression: every record is the whole file, but nothing is copied.
    let bytes = vec![0x80; 1 << 16];
    let names: Vec<String> = (0..1000).map(|index| format!("data/{index}")).collect();
    let mut records: Vec<(&str, &[u8])> = vec![("data.pkl", &bytes)];
    records.extend(names.iter().map(|name| (&**name, &b""[..])));
    assert!(read(&zip(&records)).is_err());
}

#[test]
fn invalid_pickles() {
    let error = |pickle: &[u8]| read(&archive(pickle)).unwrap_err();
    assert!(matches!(error(b""), Error::Truncated { .. }));
    assert!(matches!(error(b"\x80\x09."), Error::Protocol { found: 9 }));
    assert!(matches!(error(b"\x80\x02P1\n."), Error::Opcode { opcode: b'P', position: 2 }));
    for pickle in [&b"I1.5\n."[..], b"Lx\n.", b"L-L\n.", b"Fone\n.", b"S'a\n.", b"S'\n.", b"Np-1\n.", b"gx\n."] {
        assert!(matches!(error(pickle), Error::Operand { .. }), "{pickle:?}");
    }
    assert!(matches!(error(b"\x80\x02\xff."), Error::Opcode { opcode: 0xff, .. }));
    for pickle in [
        &b"."[..],
        b"(.",
        b"0",
        b"1",
        b"2",
        b"a",
        b"e",
        b"s",
        b"u",
        b"t",
        b"\x85",
        b"\x93",
        b"R",
        b"b",
        b"Q",
        b"l",
        b"d",
        b"o",
        b"\x90",
        b"\x91",
        b"\x92",
        b"\x98",
    ] {
        assert!(matches!(error(pickle), Error::Operand { .. }), "{pickle:?}");
    }
    // Values below a mark; a list that is none; keys without values; an empty memo.
    for pickle in [
        &b"]N(0a."[..],
        b"N(N0\x85.",
        b"NNa.",
        b"](Ne0](Nu.",
        b"}(Nu.",
        b"h\x00.",
        b"j\xff\xff\xff\xff.",
        b"NNR.",
        b"Nq\x09.",
    ] {
        let error = error(pickle);
        assert!(matches!(error, Error::Operand { .. } | Error::NoStateDict { .. }), "{pickle:?}: {error}");
    }
    // Strings longer than the file, and one that is not UTF-8.
    for start in [
        &b"X\xff\xff\xff\xff"[..],
        b"T\xff\xff\xff\x7f",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8b\xff\xff\xff\xff",
        b"cos",
    ] {
        assert!(matches!(error(start), Error::Truncated { .. }), "{start:?}");
    }
    assert!(matches!(error(b"X\x01\0\0\0\xff."), Error::Text { .. }));
    // Nothing is executed; the error names the call.
    let found = |pickle: &[u8]| match error(pickle) {
        Error::NoStateDict { found, .. } => found,
        other => panic!("{other}"),
    };
    assert_eq!(found(b"cbuiltins\neval\nX\x01\0\0\x001\x85R."), "an object of builtins.eval");
    assert_eq!(found(b"(S'1'\nibuiltins\neval\n."), "an object of builtins.eval");
    assert_eq!(found(b"(cbuiltins\neval\nS'1'\no."), "an object of builtins.eval");
    assert_eq!(found(b"X\x02\0\0\0osX\x06\0\0\0system\x93."), "os.system");
    // A dict that contains itself, and tensors without arguments.
    assert!(matches!(error(b"}q\x00X\x01\0\0\0ah\x00s."), Error::NoStateDict { .. }));
    assert!(matches!(error(b"}X\x01\0\0\0actorch._utils\n_rebuild_parameter\n)Rs."), Error::NotATensor { .. }));
    assert!(matches!(error(b"}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n)Rs."), Error::Description { .. }));
}

#[test]
fn depth_and_repetition_do_not_exhaust_anything() {
    // Would overflow the stack if anything were recursive.
    const MANY: usize = 1 << 18;
    let deep_tuples = [b"N", &vec![0x85; MANY][..], b"."].concat();
    let lists = [vec![b']'; MANY], vec![b'a'; MANY - 1], b".".to_vec()].concat();
    let marks = vec![b'('; MANY];
    let copies = [b"N".to_vec(), vec![b'2'; MANY], b".".to_vec()].concat();
    let dicts = vec![b'}'; MANY];
    let far_memo = b"Nr\xff\xff\xff\x7f.".to_vec();
    // Each tuple holds the previous one twice: a tree of 2^50,000 leaves.
    let doubled = [&b"N"[..], &b"2\x86".repeat(MANY / 5), b"."].concat();
    let long_name =
        [&b"}(X\x00\x00\x10\x00"[..], &vec![b'x'; 1 << 20], b"q\x00N", &b"h\x00N".repeat(MANY), b"u."].concat();
    // Each dict holds the next: `{"a": {"a": …}}`.
    let nested = [b"}X\x01\x00\x00\x00a".repeat(MANY), b"N".to_vec(), vec![b's'; MANY], b".".to_vec()].concat();
    // A long list of pairs, passed to very many OrderedDicts, of which none is a state dict.
    let pairs = [&b"](]q\x00(U\x01aNe"[..], &b"h\x00".repeat(MANY / 8), b"eq\x01"].concat();
    let call = b"ccollections\nOrderedDict\nq\x02h\x01\x85R";
    let shared = [&b"]("[..], &pairs, call, &b"h\x02h\x01\x85R".repeat(MANY / 8), b"e."].concat();
    for pickle in [deep_tuples, lists, marks, copies, dicts, far_memo, doubled, long_name, nested, shared] {
        assert!(read(&archive(&pickle)).is_err());
        assert!(read(&pickle).is_err());
        let _ = Pickle::read(&pickle);
    }
}

#[test]
fn one_tensor_under_many_names() {
    let tensor = tensor(6, 0, &[6], &[1]);
    let repeated = |name: &[u8], times: usize| {
        let mut pickle = b"}(X\x04\0\0\0name".to_vec();
        pickle.extend(&tensor);
        pickle.extend(b"q\x01");
        for index in 0..times {
            pickle.extend(name);
            if name == b"U\x08" {
                pickle.extend(format!("{index:08}").into_bytes());
            }
            pickle.extend(b"h\x01");
        }
        pickle.extend(b"u.");
        read(&archive(&pickle))
    };
    assert_eq!(repeated(b"U\x08", 100).unwrap(), 101);
    // A long name is validated once, not at each recall.
    let length = 1 << 20;
    for (instruction, letters) in [(b'X', "ж"), (b'T', "ж"), (b'X', "x")] {
        let text = letters.repeat(length / letters.len());
        let once = [&[instruction][..], &(length as u32).to_le_bytes(), text.as_bytes(), b"q\x02h\x01"].concat();
        assert!(repeated(&[&once[..], &b"h\x02h\x01".repeat(1 << 14)].concat(), 1).is_err());
    }
    assert_eq!(repeated(b"U\x08", 1 << 18).unwrap(), (1 << 18) + 1);
    assert!(matches!(repeated(b"X\x04\0\0\0name", 1), Err(Error::DuplicateName { .. })));
}

#[test]
fn one_long_tuple_of_arguments_for_many_tensors() {
    let one = tensor(6, 0, &[6], &[1]);
    let arguments = [&one[..one.len() - 2], &b"N".repeat(1 << 15), b"tq\x01R"].concat();
    let mut pickle = [b"}(U\x08--------", &arguments[..]].concat();
    for index in 0..1 << 15 {
        pickle.extend(format!("U\x08{index:08}ctorch._utils\n_rebuild_tensor_v2\nh\x01R").into_bytes());
    }
    pickle.extend(b"u.");
    assert_eq!(read(&archive(&pickle)).unwrap(), (1 << 15) + 1);
}

/// An archive of `{"state_dict": {"t": tensor}, "x": …}`, with the value of `pickle` as `x`.
fn beside(pickle: &[u8]) -> Vec<u8> {
    let one = tensor_pickle(6, 0, &[6], &[1]);
    // Without the protocol and STOP.
    let inner = &one[2..one.len() - 1];
    archive(&[&b"\x80\x02}(X\x0a\0\0\0state_dict"[..], inner, b"X\x01\0\0\0x", pickle, b"u."].concat())
}

#[test]
fn ordinary_files_stay_within_the_limit() {
    let float = [&b"G"[..], &0.25f64.to_be_bytes()].concat();
    // A list of 200,000 losses, a thousand at a time as Python writes it.
    let thousand = [&b"("[..], &float.repeat(1000), b"e"].concat();
    let losses = [&b"]"[..], &thousand.repeat(200)].concat();
    assert_eq!(read(&beside(&losses)).unwrap(), 1);
    // A training history of 20,000 dicts.
    let row = [&b"}(U\x04loss"[..], &float, b"U\x08accuracy", &float, b"u"].concat();
    let history = [&b"]("[..], &row.repeat(20_000), b"e"].concat();
    assert_eq!(read(&beside(&history)).unwrap(), 1);
    // 3,000 rows of one tensor, each with a name.
    let rows = views_pickle(75_000, (0..3000).map(|row| 25 * row), &[25], &[1]);
    let storage = vec![0; 300_000];
    assert_eq!(read(&zip(&[("data.pkl", &rows), ("data/0", &storage)])).unwrap(), 3000);
    // Transposed matrices: four distinct views are copied, together larger than the file.
    let views = views_pickle(360_000, [0, 0, 600, 1200, 1800], &[600, 597], &[1, 600]);
    let storage = vec![0; 1_440_000];
    assert_eq!(StateDict::read(&zip(&[("data.pkl", &views), ("data/0", &storage)])).unwrap().len(), 5);
}
