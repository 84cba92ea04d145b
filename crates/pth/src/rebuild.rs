//! The calls that rebuild a pickle's tensors. Source: `torch/_utils.py`, `torch/_tensor.py` (`__reduce_ex__`).

use crate::dtype::DType;
use crate::error::{Error, Result, excerpt};
use crate::layout::MOST_DIMENSIONS;
use crate::pickle::{Call, Node};
use crate::storage::{Elements, StorageId};

/// The most calls nested around a tensor's own: a parameter, one with attributes, one of a subclass.
const MOST_WRAPPERS: usize = 4;

/// Tensors that are not a dense array in a storage: the function that rebuilds them, what they are, and what to save
/// instead.
const OTHER_KINDS: [(&str, &str, &str); 8] = [
    ("_rebuild_sparse_tensor", "a sparse tensor", "tensor.to_dense()"),
    ("_rebuild_sparse_csr_tensor", "a sparse tensor", "tensor.to_dense()"),
    ("_rebuild_qtensor", "a quantized tensor", "tensor.dequantize()"),
    ("_rebuild_nested_tensor", "a nested tensor", "each of its tensors"),
    ("_rebuild_meta_tensor_no_storage", "a tensor without values (on the device meta)", "the tensor that has them"),
    ("_rebuild_device_tensor_from_numpy", "a tensor on another device", "tensor.cpu()"),
    ("_rebuild_device_tensor_from_cpu_tensor", "a tensor on another device", "tensor.cpu()"),
    ("_rebuild_wrapper_subclass", "a tensor of a subclass without a storage", "a plain torch.Tensor"),
];

/// Where a tensor's elements are.
pub(crate) struct Rebuilt<'a> {
    pub(crate) storage: StorageId<'a>,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    /// In elements.
    pub(crate) strides: Vec<usize>,
    /// The index of the first element.
    pub(crate) offset: usize,
}

/// Whether this is a tensor of any kind.
pub(crate) fn is_tensor(value: Node) -> bool {
    value.call().is_some_and(is_rebuild)
}

fn is_rebuild(call: Call) -> bool {
    matches!(call.module, "torch._utils" | "torch._tensor") && call.name.starts_with("_rebuild_")
}

/// Reads the description of the tensor called `name`.
///
/// # Errors
/// [`Error::NotATensor`], [`Error::UnsupportedTensor`], or [`Error::Description`] if it is damaged.
pub(crate) fn tensor<'a>(name: &str, value: Node<'_, 'a>) -> Result<Rebuilt<'a>> {
    let name = || excerpt(name.as_bytes());
    let not_a_tensor = || Error::NotATensor { name: name(), found: value.describe() };
    let unsupported = |found: &str, save: &str| Error::UnsupportedTensor {
        tensor: name(),
        found: found.to_string(),
        advice: save.to_string(),
    };
    let of_type = |found: &str| {
        let save = if found.starts_with("complex") { "torch.view_as_real(tensor)" } else { "tensor.float()" };
        unsupported(&format!("of type {found}"), save)
    };
    let (function, arguments) = unwrap(value).ok_or_else(not_a_tensor)?;
    if let Some((_, found, save)) = OTHER_KINDS.iter().find(|(other, ..)| *other == function) {
        return Err(unsupported(found, save));
    }
    if !matches!(function, "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") {
        return Err(unsupported(
            &format!("a tensor rebuilt by {}", excerpt(function.as_bytes())),
            "a plain torch.Tensor",
        ));
    }
    let wrong =
        |what, found: Node, expected| Error::Description { tensor: name(), what, found: found.describe(), expected };
    // No more than are used: a hostile file may pass one large tuple very often.
    let arguments: Vec<Node> = arguments.items().into_iter().flatten().take(8).collect();
    let &[storage, offset, shape, strides, ref more @ ..] = arguments.as_slice() else {
        return Err(wrong("the description", value, "a storage, an offset, a shape and strides"));
    };
    if let ("_rebuild_tensor_v3", Some(dtype)) = (function, more.get(2)) {
        // The types without a storage class: float8 and unsigned integers wider than 8 bits.
        return Err(of_type(&dtype.global().map_or(dtype.describe(), |(_, name)| excerpt(name.as_bytes()))));
    }
    // It follows requires_grad and the backward hooks.
    if let Some(metadata) = more.get(2)
        && let Some(bit) =
            ["neg", "conj"].into_iter().find(|bit| metadata.get_early(bit).and_then(|it| it.as_bool()) == Some(true))
    {
        return Err(unsupported(&format!("a lazy view with the {bit} bit set"), "tensor.clone()"));
    }
    let id = storage.persistent_id().ok_or_else(|| wrong("the storage", storage, "a storage"))?;
    let storage = StorageId::read(id)?;
    let dtype = match storage.elements {
        Elements::Of(dtype) => dtype,
        Elements::Other(found, _) => return Err(of_type(found)),
    };
    let offset = offset.as_usize().ok_or_else(|| wrong("the offset", offset, "a number of elements"))?;
    let sizes = sizes(shape).ok_or_else(|| wrong("the shape", shape, "a tuple of at most 64 sizes"))?;
    let steps = self::sizes(strides).filter(|steps| steps.len() == sizes.len());
    let strides = steps.ok_or_else(|| wrong("the strides", strides, "a tuple as long as the shape"))?;
    Ok(Rebuilt { storage, dtype, shape: sizes, strides, offset })
}

/// The function that rebuilds the tensor itself, and its arguments.
fn unwrap<'p, 'a>(value: Node<'p, 'a>) -> Option<(&'a str, Node<'p, 'a>)> {
    let mut call = value.call().filter(|call| is_rebuild(*call))?;
    for _ in 0..MOST_WRAPPERS {
        let mut arguments = call.arguments.items()?;
        match call.name {
            "_rebuild_parameter" | "_rebuild_parameter_with_state" => {
                call = arguments.next()?.call().filter(|call| is_rebuild(*call))?;
            }
            // The arguments: the function, the class, the function's arguments.
            "_rebuild_from_type" | "_rebuild_from_type_v2" => {
                let (module, name) = arguments.next()?.global()?;
                call = Call { module, name, arguments: arguments.nth(1)?, state: call.state };
            }
            name => return Some((name, call.arguments)),
        }
    }
    None
}

/// The sizes in a tuple or a `torch.Size`.
fn sizes(node: Node) -> Option<Vec<usize>> {
    let node = match node.call() {
        Some(call) if call.name == "Size" => call.arguments.tuple::<1>()?[0],
        _ => node,
    };
    node.items().filter(|items| items.len() <= MOST_DIMENSIONS)?.map(|size| size.as_usize()).collect()
}
