//! Any bytes as a file, as a pickle, and as the pickle of an archive: no panic, no hang, and no more memory than twice
//! the input's length and the floor.
#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use libfuzzer_sys::fuzz_target;
use pth::pickle::Pickle;
use pth::{DType, MEMORY_FLOOR, StateDict, Tensor};

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: all calls are handed to the system's allocator as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(held, Relaxed);
        // SAFETY: the caller's promise about `layout`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise about `pointer` and `layout`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `read` on a file of `length` bytes, and checks what it took.
fn limited(length: usize, read: impl FnOnce()) {
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    read();
    let took = MOST.load(Relaxed) - before;
    assert!(took <= 2 * length + MEMORY_FLOOR, "{took} bytes for {length}");
}

fn read(file: &[u8]) {
    limited(file.len(), || {
        if let Ok(state) = StateDict::read(file) {
            for (_, tensor) in state.iter() {
                let count: usize = tensor.shape().iter().product();
                assert_eq!(tensor.data().len(), count * tensor.dtype().size());
            }
        }
    });
}

/// An archive whose first record, the pickle, is replaced: later records move, the directory's places with them.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    let records = [("a/data.pkl", pickle), ("a/data/0", &[7; 24]), ("a/data/1", &[1; 8])];
    for (name, bytes) in records {
        let header = file.len() as u32;
        // 10 bytes of version, flags, method, time and date, and the checksum, which is not looked at here.
        let mut common = vec![0; 14];
        common.extend((bytes.len() as u32).to_le_bytes());
        common.extend((bytes.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        file.extend(b"PK\x03\x04");
        file.extend(&common);
        file.extend(name.as_bytes());
        file.extend(bytes);
        directory.extend(b"PK\x01\x02\0\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(header.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let start = file.len() as u32;
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend((records.len() as u16).to_le_bytes());
    file.extend((records.len() as u16).to_le_bytes());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    file
}

fuzz_target!(|data: &[u8]| {
    read(data);
    read(&archive(data));
    limited(data.len(), || {
        if let Ok(pickle) = Pickle::read(data) {
            let root = pickle.root();
            let _ = (root.describe(), root.get("data").map(|data| pth::numpy::array(data, "data").is_ok()));
            let _ = (pth::numpy::array(root, "root").is_ok(), pth::numpy::integer(root));
        }
    });
    // What is written of any text and bytes is read again.
    if let Ok(name) = std::str::from_utf8(data) {
        let mut state = StateDict::new();
        state.push(name, Tensor::new(DType::U8, vec![data.len()], data).expect("as many bytes as it has"));
        let mut file = Vec::new();
        state.write("net", &mut file).expect("a vector takes all");
        assert_eq!(StateDict::read(&file).expect("just written"), state);
    }
});
