//! Hostile and broken files: an error, soon, and without more memory than the limit.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use pth::pickle::Pickle;
use pth::{Error, MEMORY_FLOOR, StateDict};
use support::{archive, fixture, tensor, tensor_pickle, views_pickle, zip};

/// Counts what this thread holds, and the most it has held.
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

// SAFETY: all calls are handed to the system's allocator as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise about `layout`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise about `pointer` and `layout`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Reads the file, and checks what it took.
fn read(file: &[u8]) -> Result<usize, Error> {
    HELD.set(0);
    MOST.set(0);
    let start = Instant::now();
    let result = StateDict::read(file);
    let (most, time) = (MOST.get() as usize, start.elapsed());
    assert!(most <= 2 * file.len() + MEMORY_FLOOR, "{most} bytes for a file of {}", file.len());
    // A tuple of one, an instruction of one byte, takes the most: its place, room for four, and what growing takes.
    assert!(most <= 128 * file.len() + (1 << 16), "{most} bytes for a file of {}", file.len());
    // A second would be enough for a hundred times as much; this machine may be busy.
    assert!(time < Duration::from_secs(10), "{time:?} for {} bytes", file.len());
    result.map(|state| state.len())
}

#[test]
fn cut_at_each_byte() {
    for name in ["plain.pth", "views.pth", "legacy.pth", "checkpoint.pth"] {
        let file = fixture(name);
        for length in 0..file.len() {
            assert!(read(&file[..length]).is_err(), "{name} cut at {length}");
        }
    }
}

#[test]
fn cut_at_each_record() {
    let file = fixture("module.pth");
    let mut boundaries = 0;
    for at in 0..file.len() - 4 {
        if file[at..].starts_with(b"PK") {
            boundaries += 1;
            assert!(read(&file[..at]).is_err());
            // The rest alone has a directory, whose places are wrong.
            assert!(at == 0 || read(&file[at..]).is_err());
        }
    }
    // A header, an entry in the directory and a descriptor for each of 13 records, and three end records.
    assert_eq!(boundaries, 3 * 13 + 3);
}

#[test]
fn a_changed_byte_gives_an_error_or_what_a_changed_file_holds() {
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
fn a_changed_record_is_noticed() {
    let mut file = archive(&tensor_pickle(6, 0, &[6], &[1]));
    assert_eq!(read(&file).unwrap(), 1);
    let at = file.windows(24).position(|window| window == [7; 24]).unwrap();
    file[at] = 8;
    assert!(matches!(read(&file), Err(Error::Checksum { record, .. }) if record == "data/0"));
}

#[test]
fn wrong_places_in_a_storage() {
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
        // A tensor without elements is nowhere.
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
    // One element shown two thousand million times.
    assert!(matches!(outside(tensor_pickle(6, 0, &[i32::MAX], &[0])), Error::Memory { .. }));
    assert!(matches!(outside(tensor_pickle(6, 0, &[1 << 20, 1 << 20], &[0, 0])), Error::Memory { .. }));
}

#[test]
fn tensors_that_are_one_view_are_copied_once() {
    // Transposed, so that they have to be copied: 24 bytes for all of them, not for each.
    let file = archive(&views_pickle(6, [0; 3], &[3, 2], &[1, 3]));
    let state = StateDict::read(&file).unwrap();
    let places: Vec<*const u8> = state.iter().map(|(_, tensor)| tensor.data().as_ptr()).collect();
    assert_eq!(places, [places[0]; 3]);
}

#[test]
fn many_views_of_much_of_one_storage_are_refused_before_they_fill_the_memory() {
    let storage = vec![0; 4 << 20];
    let elements = (storage.len() / 4) as i32;
    // Each is all of it but for a few elements, and lies there as it is needed: nothing would be copied, but by its user.
    let pickle = views_pickle(elements, 0..400, &[elements - 1000], &[1]);
    let file = zip(&[("data.pkl", &pickle), ("data/0", &storage)]);
    assert!(matches!(read(&file), Err(Error::Memory { .. })));
}

#[test]
fn archives_that_are_wrong() {
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
    // A bomb: a few bytes said to be gigabytes when unpacked.
    assert!(matches!(with(directory + 10, &[8, 0]), Error::Compressed { method: 8, .. }));
    assert!(matches!(with(directory + 8, &[1, 0]), Error::Encrypted { .. }));
    assert!(matches!(with(directory + 24, &[0xff; 4]), Error::Signature { .. }));
    assert!(matches!(with(directory + 42, &[9, 0, 0, 0]), Error::Signature { .. }));
    assert!(matches!(with(directory + 42, &[0xff; 4]), Error::Truncated { .. }));
    assert!(matches!(with(directory, b"PKxx"), Error::Signature { .. }));
    let end = good.len() - 22;
    assert!(matches!(with(end + 16, &[0xfe; 4]), Error::Truncated { .. }));
    assert!(matches!(with(end + 10, &[0xfe; 2]), Error::Signature { .. } | Error::Truncated { .. }));
    // 64-bit numbers that are not there.
    assert!(matches!(with(end + 10, &[0xff; 2]), Error::Signature { .. }));
}

#[test]
fn a_directory_that_points_often_to_one_place() {
    // A bomb without compression: each record is the whole file. Nothing is copied, so nothing grows.
    let bytes = vec![0x80; 1 << 16];
    let names: Vec<String> = (0..1000).map(|index| format!("data/{index}")).collect();
    let mut records: Vec<(&str, &[u8])> = vec![("data.pkl", &bytes)];
    records.extend(names.iter().map(|name| (&**name, &b""[..])));
    assert!(read(&zip(&records)).is_err());
}

#[test]
fn pickles_that_are_wrong() {
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
    // What lies below a mark is not to be taken; a list that is none; keys without values; a memo that is empty.
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
    // Texts that are longer than the file, and one that is not UTF-8.
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
    // Nothing is executed, and what it would be is named.
    let found = |pickle: &[u8]| match error(pickle) {
        Error::NoStateDict { found, .. } => found,
        other => panic!("{other}"),
    };
    assert_eq!(found(b"cbuiltins\neval\nX\x01\0\0\x001\x85R."), "an object of builtins.eval");
    assert_eq!(found(b"(S'1'\nibuiltins\neval\n."), "an object of builtins.eval");
    assert_eq!(found(b"(cbuiltins\neval\nS'1'\no."), "an object of builtins.eval");
    assert_eq!(found(b"X\x02\0\0\0osX\x06\0\0\0system\x93."), "os.system");
    // A dict that is its own value, and a tensor that is its own storage.
    assert!(matches!(error(b"}q\x00X\x01\0\0\0ah\x00s."), Error::NoStateDict { .. }));
    assert!(matches!(error(b"}X\x01\0\0\0actorch._utils\n_rebuild_parameter\n)Rs."), Error::NotATensor { .. }));
    assert!(matches!(error(b"}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n)Rs."), Error::Description { .. }));
}

#[test]
fn depth_and_repetition_do_not_exhaust_anything() {
    // Enough to exhaust a stack, were there a function that calls itself.
    const MANY: usize = 1 << 20;
    let deep_tuples = [b"N", &vec![0x85; MANY][..], b"."].concat();
    let lists = [vec![b']'; MANY], vec![b'a'; MANY - 1], b".".to_vec()].concat();
    let marks = vec![b'('; MANY];
    let copies = [b"N".to_vec(), vec![b'2'; MANY], b".".to_vec()].concat();
    let dicts = vec![b'}'; MANY];
    let far_memo = b"Nr\xff\xff\xff\x7f.".to_vec();
    // Each tuple holds the one before twice: a tree of 2 to the power of 200,000.
    let doubled = [&b"N"[..], &b"2\x86".repeat(MANY / 5), b"."].concat();
    let long_name =
        [&b"}(X\x00\x00\x08\x00"[..], &[b'x'; 1 << 19], b"q\x00N", &b"h\x00N".repeat(MANY / 6), b"u."].concat();
    for pickle in [deep_tuples, lists, marks, copies, dicts, far_memo, doubled, long_name] {
        assert!(read(&archive(&pickle)).is_err());
        assert!(read(&pickle).is_err());
        let _ = Pickle::read(&pickle);
    }
}

#[test]
fn one_tensor_under_very_many_names() {
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
    // A long name is looked through once, not each time it is called up.
    let length = 1 << 20;
    for (instruction, letters) in [(b'X', "ж"), (b'T', "ж"), (b'X', "x")] {
        let text = letters.repeat(length / letters.len());
        let once = [&[instruction][..], &(length as u32).to_le_bytes(), text.as_bytes(), b"q\x02h\x01"].concat();
        assert!(repeated(&[&once[..], &b"h\x02h\x01".repeat(1 << 14)].concat(), 1).is_err());
    }
    assert_eq!(repeated(b"U\x08", 1 << 18).unwrap(), (1 << 18) + 1);
    assert!(matches!(repeated(b"X\x04\0\0\0name", 1), Err(Error::DuplicateName { .. })));
}

/// An archive with `"state_dict"`, a tensor under a name, and beside it, under `"x"`, what `pickle` makes.
fn beside(pickle: &[u8]) -> Vec<u8> {
    let one = tensor_pickle(6, 0, &[6], &[1]);
    // The whole is `{"t": tensor}` and the end.
    let inner = &one[2..one.len() - 1];
    archive(&[&b"\x80\x02}(X\x0a\0\0\0state_dict"[..], inner, b"X\x01\0\0\0x", pickle, b"u."].concat())
}

#[test]
fn ordinary_files_are_not_taken_for_hostile_ones() {
    let float = [&b"G"[..], &0.25f64.to_be_bytes()].concat();
    // A list of 200,000 losses, as Python writes it: a thousand at a time.
    let thousand = [&b"("[..], &float.repeat(1000), b"e"].concat();
    let losses = [&b"]"[..], &thousand.repeat(200)].concat();
    assert_eq!(read(&beside(&losses)).unwrap(), 1);
    // 20,000 dicts of a training's history.
    let row = [&b"}(U\x04loss"[..], &float, b"U\x08accuracy", &float, b"u"].concat();
    let history = [&b"]("[..], &row.repeat(20_000), b"e"].concat();
    assert_eq!(read(&beside(&history)).unwrap(), 1);
    // 3,000 rows of one tensor, under their names.
    let rows = views_pickle(75_000, (0..3000).map(|row| 25 * row), &[25], &[1]);
    let storage = vec![0; 300_000];
    assert_eq!(read(&zip(&[("data.pkl", &rows), ("data/0", &storage)])).unwrap(), 3000);
    // Transposed matrices: each view is copied, and here there are four of them, more than the file is long.
    let views = views_pickle(360_000, [0, 0, 600, 1200, 1800], &[600, 597], &[1, 600]);
    let storage = vec![0; 1_440_000];
    assert_eq!(StateDict::read(&zip(&[("data.pkl", &views), ("data/0", &storage)])).unwrap().len(), 5);
}
