//! Exports networks as ONNX, for onnxruntime and other programs that know neither Rust nor Python.
//!
//! Written is what a forward pass records, layer by layer: so any network can be exported that is made of this
//! repository's layers and functions, whether it is [`Net`](crate::model::Net), a `Sequential` or a struct of one's
//! own. Source: <https://onnx.ai/onnx/operators>, opset 17.

use candle_cnn::parameters::read_between_steps;
use candle_cnn::trace::{self, LayerCall, Operation};
use candle_core::{DType, Device, Tensor, TensorId, Var};
use candle_nn::ModuleT;
use prost::Message;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::file::write;
use super::model_card::{METADATA_KEY, ModelCard};
use super::onnx_format::{
    AttributeProto, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TensorType, TypeProto, ValueInfoProto, attribute_type, dimension,
};
use crate::error::{Error, Result};

/// From 2021; it has all operators needed here, unchanged since, and is old enough for any program in use.
const OPSET: i64 = 17;
/// The version of the file format that came with that opset.
const IR_VERSION: i64 = 8;
/// ONNX's number for 32-bit floats.
const FLOAT: i32 = 1;
/// The names of input and output.
const INPUT: &str = "images";
const OUTPUT: &str = "logits";
/// A protobuf message holds at most 2 GiB.
const MOST_BYTES: usize = i32::MAX as usize;

/// Writes `network`, whose parameters lie on `device`, to `path` as ONNX. It takes `images`, normalized f32 `[N, C, H,
/// W]` of the card's shape with any N, and gives `logits` `[N, classes]`, as in evaluation mode. `card` goes into the
/// metadata under `model_card`.
///
/// Parameters keep their names (`conv1.weight`). One that several layers share is written once, under the name that it
/// has in the first. Of several tensors of one name (of layers from different
/// [`Parameters`](candle_cnn::parameters::Parameters)) the first keeps it, and the others become `conv1.weight_2`,
/// `conv1.weight_3`, …; so do results of layers whose name is taken. A layer without a name has parameters called
/// `weight`, `bias`, ….
///
/// ```
/// use candle_core::Device;
/// use cifar_lab::{checkpoint::{ModelCard, save_onnx}, model::Net};
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("redneuronal.onnx");
/// let net = Net::new(&Default::default(), candle_cnn::parameters::Parameters::new(0).var_builder(&Device::Cpu))?;
/// save_onnx(&net, &path, &ModelCard::default(), &Device::Cpu)?;
/// assert!(path.exists());
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// [`Error::Onnx`] where the network has more than layers that ONNX has too, [`Error::File`] where the file cannot be
/// written, candle's where the forward pass fails.
pub fn save_onnx(network: &impl ModuleT, path: impl AsRef<Path>, card: &ModelCard, device: &Device) -> Result<()> {
    save_any_onnx(network, path.as_ref(), card, device)
}

/// Not generic: a cell would compile it for its network.
fn save_any_onnx(network: &dyn ModuleT, path: &Path, card: &ModelCard, device: &Device) -> Result<()> {
    let (channels, height, width) = card.image_shape;
    // A variable, so that what is computed from it can be told.
    let images = Var::zeros((1, channels, height, width), DType::F32, device)?;
    // Of a network that is being trained, all weights of one moment.
    let graph = read_between_steps(|| {
        let (logits, calls) = trace::record(|| network.forward_t(&images, false));
        graph(&images, &logits?, &calls)
    })?;
    let bytes: usize = graph.initializer.iter().map(Message::encoded_len).sum();
    if bytes > MOST_BYTES {
        return Err(Error::Onnx {
            reason: format!("its parameters take {bytes} bytes, but an ONNX file holds at most 2 GiB"),
        });
    }
    let model = ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some(env!("CARGO_PKG_NAME").into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
        metadata_props: vec![StringStringEntryProto { key: Some(METADATA_KEY.into()), value: Some(card.to_json()?) }],
    };
    write(path, &model.encode_to_vec())
}

/// Assigns unique names.
#[derive(Default)]
struct Names(HashSet<String>);

impl Names {
    /// `wanted`, or where that is taken `wanted_2`, `wanted_3`, …
    fn take(&mut self, wanted: &str) -> String {
        let numbered = (2..).map(|number| format!("{wanted}_{number}"));
        let free = |name: &String| !self.0.contains(name);
        // There is always a free number.
        let name = std::iter::once(wanted.to_string()).chain(numbered).find(free).unwrap_or_default();
        self.0.insert(name.clone());
        name
    }
}

/// A tensor that an operator takes besides what comes from the layer before.
struct Parameter {
    /// What the layer calls it (`weight`).
    part: &'static str,
    tensor: Tensor,
    /// What tells it apart from others: its own id; and of one that the layer lacks, its part and the id of a tensor
    /// that the layer has.
    identity: (TensorId, Option<&'static str>),
}

impl Parameter {
    fn new(part: &'static str, tensor: &Tensor) -> Self {
        Self { part, tensor: tensor.clone(), identity: (tensor.id(), None) }
    }

    /// `tensor`, or where there is none what `stand_in` makes of `like`.
    fn or(
        part: &'static str,
        tensor: &Option<Tensor>,
        like: &Tensor,
        stand_in: fn(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Self> {
        match tensor {
            Some(tensor) => Ok(Self::new(part, tensor)),
            None => Ok(Self { part, tensor: stand_in(like)?, identity: (like.id(), Some(part)) }),
        }
    }
}

/// A layer's call as an operator of ONNX.
struct Operator {
    kind: &'static str,
    parameters: Vec<Parameter>,
    attributes: Vec<AttributeProto>,
}

impl Operator {
    fn new(kind: &'static str, attributes: Vec<AttributeProto>) -> Self {
        Self { kind, parameters: Vec::new(), attributes }
    }

    /// The operator that does what `call` did; none where that is nothing.
    fn of(call: &LayerCall) -> Result<Option<Self>> {
        let refused = |why: String| Err(Error::Onnx { reason: format!("{} {why}", told(call)) });
        let weight_and_bias = |weight: &Tensor, bias: &Option<Tensor>| {
            let bias = bias.as_ref().map(|bias| Parameter::new("bias", bias));
            [Parameter::new("weight", weight)].into_iter().chain(bias).collect()
        };
        Ok(Some(match &call.operation {
            Operation::Conv2d { weight, bias, config } => {
                let (_, _, height, width) = weight.dims4()?;
                let attributes = vec![
                    integers("kernel_shape", &[height, width]),
                    integers("pads", &[config.padding; 4]),
                    integers("strides", &[config.stride; 2]),
                    integers("dilations", &[config.dilation; 2]),
                    integer("group", config.groups as i64),
                ];
                Self { kind: "Conv", parameters: weight_and_bias(weight, bias), attributes }
            }
            Operation::BatchNorm2d { train: true, .. } => {
                return refused("normalizes with the batch's own mean and variance, even in evaluation mode".into());
            }
            Operation::BatchNorm2d { running_mean, running_var, weight, bias, eps, .. } => {
                // ONNX always scales and shifts.
                let parameters = vec![
                    Parameter::or("weight", weight, running_mean, Tensor::ones_like)?,
                    Parameter::or("bias", bias, running_mean, Tensor::zeros_like)?,
                    Parameter::new("running_mean", running_mean),
                    Parameter::new("running_var", running_var),
                ];
                Self { kind: "BatchNormalization", parameters, attributes: vec![float("epsilon", *eps as f32)] }
            }
            Operation::Linear { .. } if call.inputs[0].rank() != 2 => {
                let shape = call.inputs[0].dims();
                return refused(format!("takes {shape:?}, but only [N, I] can be exported: flatten it first"));
            }
            Operation::Linear { weight, bias } => {
                // A weight is [O, I] here, and a product's second factor [I, O].
                let attributes = vec![integer("transB", 1)];
                Self { kind: "Gemm", parameters: weight_and_bias(weight, bias), attributes }
            }
            Operation::MaxPool2d { kernel, stride } => Self::new("MaxPool", windows(*kernel, *stride)),
            Operation::AvgPool2d { kernel, stride } => Self::new("AveragePool", windows(*kernel, *stride)),
            Operation::Add => Self::new("Add", vec![]),
            Operation::Relu => Self::new("Relu", vec![]),
            Operation::Flatten => Self::new("Flatten", vec![integer("axis", 1)]),
            Operation::Dropout { train: true } => return refused("drops values even in evaluation mode".into()),
            Operation::Dropout { train: false } => return Ok(None),
            _ => return refused("has no ONNX counterpart".into()),
        }))
    }
}

/// How a message calls a layer: `conv1 (Conv2d)`, or `ReLU` where it has no name.
fn told(call: &LayerCall) -> String {
    if call.name.is_empty() { call.kind.to_string() } else { format!("{} ({})", call.name, call.kind) }
}

/// The calls that `output` comes from, in their order. Others, of a branch that leads nowhere, need not be written.
fn leading_to<'a>(output: &Tensor, calls: &'a [LayerCall]) -> Vec<&'a LayerCall> {
    let mut needed = HashSet::from([output.id()]);
    let mut leading: Vec<&LayerCall> = Vec::new();
    for call in calls.iter().rev() {
        if needed.contains(&call.output.id()) {
            needed.extend(call.inputs.iter().map(Tensor::id));
            leading.push(call);
        }
    }
    leading.reverse();
    leading
}

/// The graph of `calls`, which made `logits` out of `images`. A tensor is written once, however often it is used; and
/// no name is given twice: ONNX has one space of names for parameters and for what operators compute.
fn graph(images: &Var, logits: &Tensor, calls: &[LayerCall]) -> Result<GraphProto> {
    let calls = leading_to(logits, calls);
    let operators = calls.iter().map(|call| Operator::of(call)).collect::<Result<Vec<_>>>()?;

    // Parameters first, so that nothing else takes their names.
    let mut names = Names(HashSet::from([INPUT, OUTPUT].map(String::from)));
    let (mut initializer, mut written) = (Vec::new(), HashMap::new());
    for (call, operator) in calls.iter().zip(&operators) {
        for Parameter { part, tensor, identity } in operator.iter().flat_map(|operator| &operator.parameters) {
            if written.contains_key(identity) {
                continue;
            }
            if tensor.sorted_nodes().iter().any(|node| node.id() == images.id()) {
                let reason = format!("the {part} of {} is computed from the images", told(call));
                return Err(Error::Onnx { reason });
            }
            let own = if call.name.is_empty() { part.to_string() } else { format!("{}.{part}", call.name) };
            let name = names.take(&own);
            initializer.push(constant(&name, tensor)?);
            written.insert(identity, name);
        }
    }

    // What each tensor of the forward pass is called.
    let mut values = HashMap::from([(images.id(), INPUT.to_string())]);
    let (mut node, mut kinds): (Vec<NodeProto>, HashMap<&str, usize>) = Default::default();
    for (call, operator) in calls.iter().zip(&operators) {
        let inputs: Option<Vec<String>> = call.inputs.iter().map(|input| values.get(&input.id()).cloned()).collect();
        let inputs = inputs.ok_or_else(|| Error::Onnx {
            reason: format!(
                "what goes into {} was computed by an operation that reports nothing; networks of this crate's layers and \
                 functions can be exported",
                told(call)
            ),
        })?;
        let Some(Operator { kind, parameters, attributes }) = operator else {
            values.extend(inputs.into_iter().map(|input| (call.output.id(), input)));
            continue;
        };
        let name = match call.name.as_str() {
            "" => {
                let count = kinds.entry(call.kind).or_default();
                *count += 1;
                names.take(&format!("{}_{count}", call.kind))
            }
            name => names.take(name),
        };
        values.insert(call.output.id(), name.clone());
        node.push(NodeProto {
            input: inputs.into_iter().chain(parameters.iter().map(|one| written[&one.identity].clone())).collect(),
            output: vec![name.clone()],
            name: Some(name),
            op_type: Some((*kind).into()),
            attribute: attributes.clone(),
        });
    }

    if logits.rank() == 0 {
        let reason = "it gives a single number, and no row of numbers for each image".into();
        return Err(Error::Onnx { reason });
    }
    let last = values.remove(&logits.id()).ok_or_else(|| Error::Onnx {
        reason: "its output was not computed by one of this crate's layers or functions".into(),
    })?;
    match node.iter_mut().find(|node| node.output[0] == last) {
        // Nothing but the outside takes what the network gives.
        Some(node) => node.output[0] = OUTPUT.into(),
        None => node.push(NodeProto {
            input: vec![last],
            output: vec![OUTPUT.into()],
            name: Some(names.take("Identity")),
            op_type: Some("Identity".into()),
            attribute: vec![],
        }),
    }
    Ok(GraphProto {
        node,
        name: Some("network".into()),
        initializer,
        input: vec![value(INPUT, &images.dims()[1..])],
        output: vec![value(OUTPUT, &logits.dims()[1..])],
    })
}

fn constant(name: &str, tensor: &Tensor) -> Result<TensorProto> {
    let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    Ok(TensorProto {
        dims: tensor.dims().iter().map(|&size| size as i64).collect(),
        data_type: Some(FLOAT),
        name: Some(name.into()),
        raw_data: Some(values.into_iter().flat_map(f32::to_le_bytes).collect()),
    })
}

/// A tensor of f32 whose first dimension is any N.
fn value(name: &str, shape: &[usize]) -> ValueInfoProto {
    let any = Dimension { value: Some(dimension::Value::DimParam("N".into())) };
    let sizes = shape.iter().map(|&size| Dimension { value: Some(dimension::Value::DimValue(size as i64)) });
    let shape = TensorShapeProto { dim: [any].into_iter().chain(sizes).collect() };
    let tensor_type = TensorType { elem_type: Some(FLOAT), shape: Some(shape) };
    ValueInfoProto { name: Some(name.into()), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

fn windows(kernel: (usize, usize), stride: (usize, usize)) -> Vec<AttributeProto> {
    vec![integers("kernel_shape", &[kernel.0, kernel.1]), integers("strides", &[stride.0, stride.1])]
}

fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, attribute_type::INT) }
}

fn integers(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().map(|&value| value as i64).collect();
    AttributeProto { ints, ..attribute(name, attribute_type::INTS) }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, attribute_type::FLOAT) }
}

fn attribute(name: &str, kind: i32) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(kind), ..AttributeProto::default() }
}

#[cfg(test)]
#[path = "../../tests/support/onnx_networks.rs"]
mod networks;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Net, NetConfig};
    use candle_cnn::parameters::Parameters;

    fn export(network: &impl ModuleT, card: &ModelCard) -> Result<GraphProto> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.onnx");
        save_onnx(network, &path, card, &Device::Cpu)?;
        let model = ModelProto::decode(&*std::fs::read(path).unwrap()).unwrap();
        assert_eq!(serde_json::from_str::<ModelCard>(model.metadata_props[0].value()).unwrap(), *card);
        Ok(model.graph.unwrap())
    }

    fn operators(graph: &GraphProto) -> Vec<&str> {
        graph.node.iter().map(|node| node.op_type()).collect()
    }

    #[test]
    fn net_is_its_layers_with_their_names() -> Result<()> {
        let parameters = Parameters::new(0);
        let net = Net::new(&NetConfig::default(), parameters.var_builder(&Device::Cpu))?;
        let graph = export(&net, &ModelCard::default())?;
        let block = ["Conv", "BatchNormalization", "Relu", "MaxPool"];
        let dense = ["Flatten", "Gemm", "Relu", "Gemm", "Relu", "Gemm"];
        assert_eq!(
            operators(&graph),
            [block, block, block, block].concat().into_iter().chain(dense).collect::<Vec<_>>()
        );
        // All but the counts of batches, each under its name and with its shape.
        let named: HashMap<&str, &TensorProto> =
            graph.initializer.iter().map(|tensor| (tensor.name(), tensor)).collect();
        for (name, var) in parameters.named() {
            match named.get(&*name) {
                Some(tensor) => {
                    assert_eq!(tensor.dims, var.dims().iter().map(|&size| size as i64).collect::<Vec<_>>(), "{name}");
                    let bytes = var.flatten_all()?.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes);
                    assert_eq!(tensor.raw_data(), bytes.collect::<Vec<_>>(), "{name}");
                }
                None => assert!(name.ends_with("num_batches_tracked"), "{name}"),
            }
        }
        assert_eq!(named.len(), 30);
        // Each node's inputs are the input, a parameter, or what came before.
        let mut known: HashSet<&str> = named.into_keys().chain([INPUT]).collect();
        for node in &graph.node {
            assert!(node.input.iter().all(|input| known.contains(&**input)), "{node:?}");
            assert!(known.insert(&node.output[0]), "{node:?}");
        }
        assert!(known.contains(OUTPUT));
        Ok(())
    }

    fn card_of(case: &networks::Case) -> ModelCard {
        ModelCard { image_shape: case.shape, ..ModelCard::default() }
    }

    /// What `graph` says of `images`, by candle's own operations. Each name is given once, and used after that.
    fn run(graph: &GraphProto, images: &Tensor) -> Result<Tensor> {
        let mut values: HashMap<&str, Tensor> = HashMap::from([(graph.input[0].name(), images.clone())]);
        for tensor in &graph.initializer {
            let numbers = tensor.raw_data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
            let dims: Vec<usize> = tensor.dims.iter().map(|&size| size as usize).collect();
            let constant = Tensor::from_vec(numbers.collect(), dims, &Device::Cpu)?;
            assert!(values.insert(tensor.name(), constant).is_none(), "{:?} is given twice", tensor.name());
        }
        let mut nodes = HashSet::new();
        for node in &graph.node {
            assert!(nodes.insert(node.name()), "{:?} is given twice", node.name());
            let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name() == name).unwrap();
            let ints = |name: &str| attribute(name).ints.iter().map(|&int| int as usize).collect::<Vec<_>>();
            let pair = |name: &str| (ints(name)[0], ints(name)[1]);
            let inputs: Vec<&Tensor> = node.input.iter().map(|input| &values[input.as_str()]).collect();
            let of_channels = |tensor: &Tensor| tensor.reshape((1, (), 1, 1));
            let (x, rest) = inputs.split_first().unwrap();
            let y = match (node.op_type(), rest) {
                ("Conv", [weight, bias @ ..]) => {
                    let (padding, stride) = (ints("pads")[3], ints("strides")[1]);
                    let groups = attribute("group").i() as usize;
                    let y = x.conv2d(weight, padding, stride, ints("dilations")[0], groups)?;
                    assert_eq!(weight.dims()[2..], ints("kernel_shape"));
                    bias.first().map_or(Ok(y.clone()), |bias| y.broadcast_add(&of_channels(bias)?))?
                }
                ("BatchNormalization", [weight, bias, mean, var]) => {
                    let deviation = (of_channels(var)? + f64::from(attribute("epsilon").f()))?.sqrt()?;
                    let y = x.broadcast_sub(&of_channels(mean)?)?.broadcast_div(&deviation)?;
                    y.broadcast_mul(&of_channels(weight)?)?.broadcast_add(&of_channels(bias)?)?
                }
                ("Gemm", [weight, bias @ ..]) => {
                    assert_eq!(attribute("transB").i(), 1);
                    let y = x.matmul(&weight.t()?)?;
                    bias.first().map_or(Ok(y.clone()), |bias| y.broadcast_add(bias))?
                }
                ("MaxPool", []) => x.max_pool2d_with_stride(pair("kernel_shape"), pair("strides"))?,
                ("AveragePool", []) => x.avg_pool2d_with_stride(pair("kernel_shape"), pair("strides"))?,
                ("Add", [y]) => (*x + *y)?,
                ("Relu", []) => x.relu()?,
                ("Flatten", []) => x.flatten_from(1)?,
                ("Identity", []) => (*x).clone(),
                other => panic!("{other:?}"),
            };
            assert!(values.insert(&node.output[0], y).is_none(), "{:?} is given twice", node.output[0]);
        }
        Ok(values.remove(graph.output[0].name()).unwrap())
    }

    #[test]
    fn what_is_written_computes_what_the_network_does() -> Result<()> {
        for case in networks::all()? {
            let graph = export(&case, &card_of(&case))?;
            assert_eq!((graph.input[0].name(), graph.output[0].name()), (INPUT, OUTPUT), "{}", case.name);
            let (channels, height, width) = case.shape;
            let images = networks::wave(&[4, channels, height, width], 0.5)?;
            let (found, wanted) = (run(&graph, &images)?, case.forward_t(&images, false)?);
            let largest = |tensor: Tensor| tensor.abs()?.max_all()?.to_scalar::<f32>();
            let (difference, size) = (largest((&found - &wanted)?)?, largest(wanted)?);
            assert!(difference <= 1e-5 * size.max(1.0), "{}: {difference} of {size}", case.name);
        }
        Ok(())
    }

    #[test]
    fn what_cannot_be_written_is_refused_for_its_reason() -> Result<()> {
        for (case, why) in networks::refused()? {
            let error = export(&case, &card_of(&case)).unwrap_err();
            assert!(matches!(&error, Error::Onnx { reason } if reason.contains(why)), "{}: {error}", case.name);
        }
        Ok(())
    }

    /// The names of a case's parameters, and of what its operators give.
    fn names_of(case: &str) -> Result<[Vec<String>; 2]> {
        let case = networks::all()?.into_iter().find(|one| one.name == case).unwrap();
        let graph = export(&case, &card_of(&case))?;
        let parameters = graph.initializer.iter().map(|tensor| tensor.name().to_string()).collect();
        Ok([parameters, graph.node.iter().map(|node| node.output[0].clone()).collect()])
    }

    #[test]
    fn names_are_kept_where_they_are_free_and_numbered_where_not() -> Result<()> {
        let strings = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let [parameters, values] = names_of("same_names")?;
        let wanted = ["fc.weight", "fc.bias", "fc.weight_2", "fc.bias_2", "fc.weight_3", "fc.bias_3"];
        assert_eq!(parameters, strings(&wanted));
        assert_eq!(values, strings(&["Flatten_1", "fc", "ReLU_1", "fc_2", "ReLU_2", OUTPUT]));

        let [parameters, values] = names_of("names_of_the_ends")?;
        assert_eq!(parameters[..4], strings(&["logits.weight", "logits.bias", "images.weight", "images.bias"]));
        assert_eq!(values, strings(&["Flatten_1", "logits_2", "ReLU_1", "images_2", "ReLU_2", OUTPUT]));

        // The parameters of `fc` keep their names, though a layer before it is called like one of them.
        let [parameters, values] = names_of("names_of_parameters")?;
        assert_eq!(parameters[..4], strings(&["fc.weight.weight", "fc.weight.bias", "fc.weight", "fc.bias"]));
        assert_eq!(values[1..4], strings(&["fc.weight_2", "ReLU_1", "fc"]));

        let [parameters, _] = names_of("nameless")?;
        assert_eq!(parameters, strings(&["weight", "weight_2", "bias", "weight_3", "bias_2"]));
        let [parameters, _] = names_of("odd_characters")?;
        assert_eq!(parameters[..3], strings(&["größe/1 \n\"{}\\.weight", "größe/1 \n\"{}\\.bias", "🙂.weight"]));
        Ok(())
    }

    #[test]
    fn a_tensor_is_written_once_however_often_it_is_used() -> Result<()> {
        assert_eq!(names_of("tied_weights")?[0], ["weight", "bias", "bias_2"]);
        assert_eq!(names_of("layers_applied_twice")?[0], ["conv.weight", "conv.bias", "fc.weight", "fc.bias"]);
        let [parameters, _] = names_of("shared_statistics")?;
        let of_norms = ["weight", "bias", "running_mean", "running_var", "weight_2", "bias_2"];
        // Those that the plain norm lacks, and its statistics; it is applied twice.
        let of_plain = ["weight_3", "bias_3", "running_mean_2", "running_var_2"];
        assert_eq!(parameters, [&of_norms[..], &of_plain[..]].concat());
        Ok(())
    }

    #[test]
    fn a_network_that_gives_what_it_takes_is_one_operator() -> Result<()> {
        for case in ["output_is_the_input", "nothing_but_dropout"] {
            assert_eq!(names_of(case)?, [vec![], vec![OUTPUT.to_string()]]);
        }
        // A head that leads nowhere is left out.
        assert_eq!(names_of("output_is_an_intermediate")?[0], ["body.weight", "body.bias"]);
        Ok(())
    }
}
