//! Arbitrary bytes as a notebook's file: it is refused, or everything in it can be read, changed and written back.
#![no_main]

// The included files name each other from the crate's root.
use lab::{atomic_file, cuda, error, machine, notebook};

mod folder;
mod lab;

use libfuzzer_sys::fuzz_target;
use notebook::parameters::{self, Setting};
use notebook::{INJECTED, Kind, Notebook, PARAMETERS, RAISES};

fuzz_target!(|bytes: &[u8]| {
    let Ok(read) = Notebook::read(&folder::file("a.ipynb", bytes)) else { return };
    let copy = folder::file("b.ipynb", &[]);
    read.write(&copy).expect("a file");
    let mut again = Notebook::read(&copy).expect("a notebook, as it was");
    assert_eq!(again, read);
    assert_eq!(read.all_printed(), again.all_printed());
    let _ = (read.own_metadata("test_settings"), read.is_tagged(read.cells().len(), RAISES));
    // Each setting that the notebook knows is accepted or refused; a refused one changes nothing.
    for (index, source) in read.code_cells() {
        if !read.is_tagged(index, PARAMETERS) {
            continue;
        }
        for parameter in parameters::declared(&source) {
            let mut changed = read.clone();
            let setting = Setting { name: parameter.name, value: "1".to_string() };
            match parameters::set(&mut changed, "fuzz", &[setting]) {
                Ok(()) => assert_eq!(changed.cells().len(), read.cells().len() + 1),
                Err(_) => assert_eq!(changed, read),
            }
        }
    }
    again.insert(0, Kind::Code, INJECTED, "let a: u8 = 1;");
    parameters::set_as_in(&mut read.clone(), &again);
    let mut filled = read.clone();
    if filled.take_outputs(&again).is_ok() {
        assert_eq!(filled.cells().len(), read.cells().len());
    }
    for index in 0..read.cells().len() {
        again.tag(index, RAISES);
        assert!(again.is_tagged(index, RAISES));
    }
});
