//! Arbitrary bytes as a cell of parameters, and after each zero byte a `--set` value: it is refused, or becomes one `let`
//! of the declared type, and a program made from the notebook accepts it too.
#![no_main]

// The included files name each other from the crate's root.
use lab::{atomic_file, cuda, error, machine, notebook};

mod lab;

use cifar_lab::program::Settable;
use libfuzzer_sys::fuzz_target;
use notebook::parameters::{Setting, declared, set};
use notebook::{INJECTED, Notebook, PARAMETERS, text};

fuzz_target!(|bytes: &[u8]| {
    let text_of = |bytes| String::from_utf8_lossy(bytes);
    let mut parts = bytes.split(|&byte| byte == 0).map(text_of);
    let source = parts.next().unwrap_or_default();
    let mut original = Notebook::from_cells([&*source]);
    original.tag(0, PARAMETERS);
    let declared = declared(&source);
    for part in parts {
        let Ok(setting) = Setting::parse(&part) else { continue };
        let mut notebook = original.clone();
        if set(&mut notebook, "fuzz", std::slice::from_ref(&setting)).is_err() {
            assert_eq!(notebook, original);
            continue;
        }
        assert!(notebook.is_tagged(1, INJECTED));
        let parameter = declared.iter().find(|known| known.name == setting.name).expect("it was accepted");
        let injected = text(&notebook.cells()[1]["source"]);
        let block: syn::Block = syn::parse_str(&format!("{{{injected}\n}}")).expect(&injected);
        // A value must not become more than a value.
        let [syn::Stmt::Local(local)] = &block.stmts[..] else { panic!("no `let`: {injected}") };
        let value = &local.init.as_ref().expect("a value").expr;
        let negative = matches!(&**value, syn::Expr::Unary(unary) if matches!(unary.op, syn::UnOp::Neg(_)));
        assert!(negative || matches!(&**value, syn::Expr::Lit(_) | syn::Expr::Call(_)), "{injected}");
        let value = setting.value.as_str();
        let read = match parameter.kind.as_str() {
            "u8" => u8::read(value).map(drop),
            "u16" => u16::read(value).map(drop),
            "u32" => u32::read(value).map(drop),
            "u64" => u64::read(value).map(drop),
            "usize" => usize::read(value).map(drop),
            "i32" => i32::read(value).map(drop),
            "i64" => i64::read(value).map(drop),
            "isize" => isize::read(value).map(drop),
            "f32" => f32::read(value).map(drop),
            "f64" => f64::read(value).map(drop),
            "bool" => bool::read(value).map(drop),
            _ => Ok(()),
        };
        assert_eq!(read, Ok(()), "{injected}");
    }
});
