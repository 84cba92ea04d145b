//! Reads arbitrary bytes as a file, as a pickle, and as the pickle of an archive: no panic, no hang, and no more memory
//! than twice the input's length plus the floor.
#![no_main]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use libfuzzer_sys::fuzz_target;
use pth::pickle::Pickle;
use pth::{DType, MEMORY_FLOOR, StateDict, Tensor};

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is forwarded to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(held, Relaxed);
        // SAFETY: `layout` is the caller's, who upholds `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `pointer` came from `System.alloc` with this `layout`: `alloc` above is the only source.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `read` on a file of `length` bytes and checks the memory it took.
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

fuzz_target!(|data: &[u8]| {
    read(data);
    read(&support::zip(&[("data.pkl", data), ("data/0", &[7; 24]), ("data/1", &[1; 8])]));
    limited(data.len(), || {
        if let Ok(pickle) = Pickle::read(data) {
            let root = pickle.root();
            let _ = (root.describe(), root.get("data").map(|data| pth::numpy::array(data, "data").is_ok()));
            let _ = (pth::numpy::array(root, "root").is_ok(), pth::numpy::integer(root));
        }
    });
    // Any name and bytes survive a round trip.
    if let Ok(name) = std::str::from_utf8(data) {
        let mut state = StateDict::new();
        state.push(name, Tensor::new(DType::U8, vec![data.len()], data).expect("the shape matches"));
        let mut file = Vec::new();
        state.write("net", &mut file).expect("a vector accepts everything");
        assert_eq!(StateDict::read(&file).expect("just written"), state);
    }
});
