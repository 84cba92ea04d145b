//! Networks as ONNX, for onnxruntime and other programs that run networks without knowing Rust or Python.
//!
//! Written is what a dry run records, layer by layer: so any network can be exported that is a chain of this
//! repository's layers and functions, whether it is [`Net`](crate::model::Net), a `Sequential` or a struct of one's own.
//! Source: <https://onnx.ai/onnx/operators>, opset 17.

use candle_cnn::trace::{self, LayerCall, Operation};
use candle_core::{DType, Device, Tensor, TensorId};
use candle_nn::ModuleT;
use prost::Message;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::ModelCard;
use super::model_card::METADATA_KEY;
use super::onnx_format::{
    AttributeProto, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TensorType, TypeProto, ValueInfoProto, attribute_type, dimension,
};
use crate::atomic_file::write_atomically;
use crate::error::{Error, Result};

/// Of 2021, with all operators that are needed here as they still are: old enough for any program in use.
const OPSET: i64 = 17;
/// The version of the file format that came with that opset.
const IR_VERSION: i64 = 8;
/// ONNX's number for 32-bit floats.
const FLOAT: i32 = 1;
/// The names of what goes in and comes out.
const INPUT: &str = "images";
const OUTPUT: &str = "logits";
/// A protobuf message holds at most 2 GiB.
const MOST_BYTES: usize = i32::MAX as usize;

/// Writes `network`, whose parameters lie on `device`, to `path` as ONNX. It takes `images`, normalised f32
/// `[N, C, H, W]` of the card's shape with any N, and gives `logits` `[N, classes]`, as in evaluation mode. Parameters keep
/// their names (`conv1.weight`); `card` goes into the metadata under `model_card`.
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
/// [`Error::Onnx`] where the network is no chain of layers that ONNX has too, [`Error::File`] where the file cannot be
/// written, candle's where the dry run fails.
pub fn save_onnx(network: &impl ModuleT, path: impl AsRef<Path>, card: &ModelCard, device: &Device) -> Result<()> {
    let path = path.as_ref();
    let (channels, height, width) = card.image_shape;
    let images = Tensor::zeros((1, channels, height, width), DType::F32, device)?;
    let (logits, calls) = trace::record(|| network.forward_t(&images, false));
    let logits = logits?;
    let mut graph = Graph::new(&images);
    for call in &calls {
        graph.add(call)?;
    }
    let graph = graph.finish(&images, &logits)?;
    let bytes: usize = graph.initializer.iter().map(Message::encoded_len).sum();
    if bytes > MOST_BYTES {
        return Err(Error::Onnx { reason: format!("its parameters take {bytes} bytes, and such a file holds 2 GiB") });
    }
    let model = ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some(env!("CARGO_PKG_NAME").into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
        metadata_props: vec![StringStringEntryProto { key: Some(METADATA_KEY.into()), value: Some(card.to_json()?) }],
    };
    write_atomically(path, &model.encode_to_vec()).map_err(|source| Error::File {
        action: "writing",
        path: path.to_path_buf(),
        source,
    })
}

/// A graph in the making.
struct Graph {
    nodes: Vec<NodeProto>,
    parameters: Vec<TensorProto>,
    /// Parameters that are there already: a layer may be called twice.
    known: HashSet<String>,
    /// What each tensor of the dry run is called.
    values: HashMap<TensorId, String>,
    /// How often each kind of node has been named.
    counts: HashMap<&'static str, usize>,
}

impl Graph {
    fn new(images: &Tensor) -> Self {
        Self {
            nodes: Vec::new(),
            parameters: Vec::new(),
            known: HashSet::new(),
            values: [(images.id(), INPUT.to_string())].into(),
            counts: HashMap::new(),
        }
    }

    fn add(&mut self, call: &LayerCall) -> Result<()> {
        let name = if call.name.is_empty() { self.numbered(call.kind) } else { call.name.clone() };
        let input = call.inputs.first().and_then(|input| self.values.get(&input.id())).cloned();
        let input = input.ok_or_else(|| Error::Onnx {
            reason: format!(
                "what goes into {name} ({}) was computed by an operation that reports nothing; a chain of this crate's \
                 layers and functions can be exported",
                call.kind
            ),
        })?;
        let mut inputs = vec![input];
        let (operator, attributes) = match &call.operation {
            Operation::Conv2d { weight, bias, config } => {
                self.parameter(&mut inputs, &name, "weight", weight)?;
                if let Some(bias) = bias {
                    self.parameter(&mut inputs, &name, "bias", bias)?;
                }
                let (_, _, height, width) = weight.dims4()?;
                let (padding, stride, dilation) = (config.padding, config.stride, config.dilation);
                let attributes = vec![
                    integers("kernel_shape", &[height, width]),
                    integers("pads", &[padding; 4]),
                    integers("strides", &[stride; 2]),
                    integers("dilations", &[dilation; 2]),
                    integer("group", config.groups as i64),
                ];
                ("Conv", attributes)
            }
            Operation::BatchNorm2d { running_mean, running_var, weight, bias, eps } => {
                // ONNX always scales and shifts.
                let one = || running_mean.ones_like();
                self.parameter(&mut inputs, &name, "weight", &weight.clone().map_or_else(one, Ok)?)?;
                let nought = || running_mean.zeros_like();
                self.parameter(&mut inputs, &name, "bias", &bias.clone().map_or_else(nought, Ok)?)?;
                self.parameter(&mut inputs, &name, "running_mean", running_mean)?;
                self.parameter(&mut inputs, &name, "running_var", running_var)?;
                ("BatchNormalization", vec![float("epsilon", *eps as f32)])
            }
            Operation::Linear { weight, bias } if call.inputs[0].rank() == 2 => {
                self.parameter(&mut inputs, &name, "weight", weight)?;
                if let Some(bias) = bias {
                    self.parameter(&mut inputs, &name, "bias", bias)?;
                }
                // A weight is [O, I] here, and a product's second factor [I, O].
                ("Gemm", vec![integer("transB", 1)])
            }
            Operation::MaxPool2d { kernel, stride } => ("MaxPool", windows(*kernel, *stride)),
            Operation::AvgPool2d { kernel, stride } => ("AveragePool", windows(*kernel, *stride)),
            Operation::Relu => ("Relu", vec![]),
            Operation::Flatten => ("Flatten", vec![integer("axis", 1)]),
            Operation::Dropout => {
                self.values.insert(call.output.id(), inputs.remove(0));
                return Ok(());
            }
            _ => {
                let shape = call.inputs[0].dims();
                let reason = format!("{name} ({} on shape {shape:?}) has no counterpart there", call.kind);
                return Err(Error::Onnx { reason });
            }
        };
        // A layer that is called again makes another value.
        let taken = |name: &str| self.nodes.iter().any(|node| node.name.as_deref() == Some(name));
        let unique = match taken(&name) {
            true => (2..).map(|time| format!("{name}_{time}")).find(|name| !taken(name)).unwrap_or(name),
            false => name,
        };
        self.values.insert(call.output.id(), unique.clone());
        self.nodes.push(NodeProto {
            input: inputs,
            output: vec![unique.clone()],
            name: Some(unique),
            op_type: Some(operator.into()),
            attribute: attributes,
        });
        Ok(())
    }

    /// A name for what has none: `ReLU_1`, `ReLU_2`, …
    fn numbered(&mut self, kind: &'static str) -> String {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        format!("{kind}_{count}")
    }

    /// Adds a layer's parameter to the graph, and its name to the node's inputs.
    fn parameter(&mut self, inputs: &mut Vec<String>, layer: &str, part: &str, tensor: &Tensor) -> Result<()> {
        let name = format!("{layer}.{part}");
        inputs.push(name.clone());
        if self.known.insert(name.clone()) {
            let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            self.parameters.push(TensorProto {
                dims: tensor.dims().iter().map(|&size| size as i64).collect(),
                data_type: Some(FLOAT),
                name: Some(name),
                raw_data: Some(values.into_iter().flat_map(f32::to_le_bytes).collect()),
            });
        }
        Ok(())
    }

    fn finish(mut self, images: &Tensor, logits: &Tensor) -> Result<GraphProto> {
        let last = self.values.remove(&logits.id()).filter(|name| name != INPUT).ok_or_else(|| Error::Onnx {
            reason: "what it gives was not computed by one of this crate's layers or functions last".into(),
        })?;
        // What nothing is computed from any more can be left out, and the last value gets its proper name.
        let place = self.nodes.iter().position(|node| node.output[0] == last).unwrap_or(0);
        self.nodes.truncate(place + 1);
        self.nodes[place].output[0] = OUTPUT.into();
        let used: HashSet<&String> = self.nodes.iter().flat_map(|node| &node.input).collect();
        let (used, nodes): (HashSet<String>, _) = (used.into_iter().cloned().collect(), self.nodes);
        self.parameters.retain(|parameter| parameter.name.as_ref().is_some_and(|name| used.contains(name)));
        Ok(GraphProto {
            node: nodes,
            name: Some("network".into()),
            initializer: self.parameters,
            input: vec![value(INPUT, &images.dims()[1..])],
            output: vec![value(OUTPUT, &logits.dims()[1..])],
        })
    }
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
mod tests {
    use super::*;
    use crate::model::{Net, NetConfig};
    use candle_cnn::layers::{
        BatchNormConfig, Conv2dConfig, Dropout, Flatten, MaxPool2d, Relu, Sequential, batch_norm2d, conv2d, linear,
    };
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

    #[test]
    fn sequentials_are_exported_too() -> Result<()> {
        let vb = Parameters::new(0).var_builder(&Device::Cpu);
        let net = Sequential::new()
            .add(conv2d(3, 4, 3, Conv2dConfig { stride: 2, ..Conv2dConfig::default() }, vb.pp("conv"))?)
            .add(batch_norm2d(4, BatchNormConfig { affine: false, ..BatchNormConfig::default() }, vb.pp("bn"))?)
            .add(Relu)
            .add(MaxPool2d::new(3, 2))
            .add(Flatten)
            .add(Dropout::new(0.5, 0)?)
            .add(linear(4 * 7 * 7, 10, vb.pp("fc"))?);
        let graph = export(&net, &ModelCard::default())?;
        assert_eq!(operators(&graph), ["Conv", "BatchNormalization", "Relu", "MaxPool", "Flatten", "Gemm"]);
        assert_eq!(graph.node[5].input, ["Flatten_1", "fc.weight", "fc.bias"]);
        let strides = graph.node[0].attribute.iter().find(|attribute| attribute.name() == "strides").unwrap();
        assert_eq!(strides.ints, [2, 2]);
        Ok(())
    }

    /// Adds what no layer reports.
    struct Residual;

    impl ModuleT for Residual {
        fn forward_t(&self, x: &Tensor, _train: bool) -> candle_core::Result<Tensor> {
            candle_cnn::ops::flatten(&(candle_cnn::ops::relu(x)? + x)?)
        }
    }

    #[test]
    fn what_is_no_chain_of_layers_is_refused() {
        let error = export(&Residual, &ModelCard::default()).unwrap_err();
        assert!(matches!(&error, Error::Onnx { reason } if reason.contains("Flatten_1")), "{error}");
        let error = export(&Sequential::new(), &ModelCard::default()).unwrap_err();
        assert!(matches!(error, Error::Onnx { .. }), "{error}");
    }
}
