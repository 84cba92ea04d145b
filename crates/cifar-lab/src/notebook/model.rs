//! How networks show themselves: the summary and the drawing of a forward pass, the model card.

use candle_cnn::trace::{LayerCall, Operation};
use candle_core::{DType, Device, Shape, Tensor, TensorId};
use candle_nn::ModuleT;
use notebook_charts::{Figure, Graph, GraphNode, LayerGroup, Table, View, network_graph, numbers};
use std::collections::{HashMap, HashSet};

use super::show::Show;
use crate::checkpoint::ModelCard;
use crate::error::Result;
use crate::model::{ForwardTrace, Net, NetConfig, forward_trace, title};
use crate::transform::Normalize;

/// `[1, 32, 16, 16]` as `1 × 32 × 16 × 16`.
fn shape_text(tensor: &Tensor) -> String {
    tensor.dims().iter().map(usize::to_string).collect::<Vec<_>>().join(" × ")
}

/// The summary of `network`, from a forward pass of a dummy image (all zeros) of shape `input`, such as
/// `(1, 3, 32, 32)`: what torchinfo's `summary` prints of a PyTorch network.
///
/// ```
/// use cifar_lab::prelude::*;
/// let net = Net::new(&NetConfig::default(), Parameters::new(0).var_builder(&Device::Cpu))?;
/// assert!(summary(&net, (1, 3, 32, 32), &Device::Cpu)?.to_string().contains("981,130"));
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// Those of [`forward_trace`].
pub fn summary(network: &impl ModuleT, input: impl Into<Shape>, device: &Device) -> Result<Table> {
    Ok(forward_trace(network, &Tensor::zeros(input, DType::F32, device)?)?.summary())
}

impl ForwardTrace {
    /// Layers, output shapes, parameters and multiply-adds.
    pub fn summary(&self) -> Table {
        let columns = ["layer", "kind", "output shape", "parameters", "multiply-adds"];
        let number = |value: u64| if value == 0 { "–".to_string() } else { numbers::grouped(value.into()) };
        let mut counted = HashSet::new();
        let (mut parameters, mut multiply_adds) = (0, 0);
        let mut table = Table::new(columns).row(["input", "", &shape_text(&self.input), "–", "–"]);
        for call in self.calls() {
            // A layer that is called twice has its parameters only once.
            let first_call = call.operation.identity().is_none_or(|identity| counted.insert(identity));
            let own = if first_call { call.parameters as u64 } else { 0 };
            parameters += own;
            multiply_adds += call.multiply_adds;
            let (name, kind) = (call.name.clone(), describe_kind(call));
            table = table.row([name, kind, shape_text(&call.output), number(own), number(call.multiply_adds)]);
        }
        let total = ["total".to_string(), String::new(), String::new(), number(parameters), number(multiply_adds)];
        table.footer(total).caption(format!(
            "Input {}; the parameters take {} as f32. Multiply-adds are for one forward pass.",
            shape_text(&self.input),
            numbers::bytes(4 * parameters)
        ))
    }

    /// The drawing of the forward pass from input to output, like torchviz's in the original notebook.
    ///
    /// # Errors
    /// If the graph can't be drawn; see [`PlotError`](notebook_charts::PlotError).
    pub fn figure(&self) -> Result<Figure> {
        Ok(network_graph(&self.graph())?)
    }

    /// The graph of the forward pass, a node for each layer's call. Operations between layers that report nothing (such
    /// as an addition) are found in candle's graph and become a node `operation`.
    fn graph(&self) -> Graph {
        let mut builder = GraphBuilder::default();
        builder.produce(
            &self.input,
            GraphNode {
                title: "input".into(),
                kind: "images".into(),
                shape: shape_text(&self.input),
                parameters: 0,
                group: LayerGroup::Data,
            },
        );
        for call in self.calls() {
            let sources: Vec<usize> = call.inputs.iter().flat_map(|input| builder.source(input)).collect();
            let node = builder.produce(
                &call.output,
                GraphNode {
                    title: title(call).to_string(),
                    kind: if call.name.is_empty() { call.settings.clone() } else { describe_kind(call) },
                    shape: shape_text(&call.output),
                    parameters: call.parameters,
                    group: group(&call.operation),
                },
            );
            builder.connect(sources, node);
        }
        // If the network's output is not the last layer's, the rest becomes nodes too.
        builder.source(&self.output);
        builder.graph
    }
}

fn group(operation: &Operation) -> LayerGroup {
    match operation {
        Operation::Conv2d { .. } => LayerGroup::Convolution,
        Operation::BatchNorm2d { .. } => LayerGroup::Normalization,
        Operation::Linear { .. } => LayerGroup::Dense,
        Operation::MaxPool2d { .. } | Operation::AvgPool2d { .. } => LayerGroup::Pooling,
        Operation::Relu | Operation::Gelu(_) => LayerGroup::Activation,
        Operation::Flatten => LayerGroup::Reshape,
        Operation::Dropout { .. } => LayerGroup::Regularization,
        _ => LayerGroup::Other,
    }
}

fn describe_kind(call: &LayerCall) -> String {
    format!("{} {}", call.kind, call.settings).trim_end().to_string()
}

/// Joins calls into a graph by finding the call that produced each input.
#[derive(Default)]
struct GraphBuilder {
    graph: Graph,
    producers: HashMap<TensorId, usize>,
}

impl GraphBuilder {
    fn produce(&mut self, output: &Tensor, node: GraphNode) -> usize {
        self.graph.nodes.push(node);
        let index = self.graph.nodes.len() - 1;
        self.producers.insert(output.id(), index);
        index
    }

    fn connect(&mut self, sources: Vec<usize>, node: usize) {
        for source in sources {
            if source != node && !self.graph.edges.contains(&(source, node)) {
                self.graph.edges.push((source, node));
            }
        }
    }

    /// The node that produced `tensor`. If no reported call did, candle's graph is searched for the nearest ones, and a
    /// node is added for the operations between.
    fn source(&mut self, tensor: &Tensor) -> Option<usize> {
        if let Some(&index) = self.producers.get(&tensor.id()) {
            return Some(index);
        }
        // Each reported output is a variable, so candle's graph of `tensor` ends there and names only the nearest.
        let nodes = tensor.sorted_nodes();
        let nearest: Vec<usize> = nodes.iter().filter_map(|node| self.producers.get(&node.id()).copied()).collect();
        if nearest.is_empty() {
            return None;
        }
        let node = self.produce(
            tensor,
            GraphNode {
                title: "operation".into(),
                kind: "of candle's own".into(),
                shape: shape_text(tensor),
                parameters: 0,
                group: LayerGroup::Other,
            },
        );
        self.connect(nearest, node);
        Some(node)
    }
}

impl Show for ForwardTrace {
    fn view(&self) -> View {
        self.summary().into()
    }
}

impl Show for Net {
    /// The [`summary`].
    fn view(&self) -> View {
        let &NetConfig { in_channels, image_size, .. } = self.config();
        match summary(self, (1, in_channels, image_size, image_size), self.device()) {
            Ok(table) => table.into(),
            Err(error) => View::line(format!("Net {:?}, which fails: {error}", self.config())),
        }
    }
}

impl Show for ModelCard {
    fn view(&self) -> View {
        let (channels, height, width) = self.image_shape;
        let Normalize { mean, std } = &self.normalize;
        let network = self.network.as_ref().map_or("not described".to_string(), |net| {
            let batch_norm = if net.batch_norm { "with" } else { "without" };
            format!("channels {:?}, dense {:?}, {batch_norm} batch norm", net.channels, net.dense)
        });
        let mut table = Table::new(["model card", ""])
            .row(["classes", &self.class_names.join(" ")])
            .row(["images", &format!("{channels} × {height} × {width}")])
            .row(["normalized with", &format!("mean {mean:?}, standard deviation {std:?}")])
            .row(["network", &network])
            .row(["trained on", &self.data])
            .row(["accuracy on its test images", &self.accuracy.map_or("–".into(), numbers::percent)]);
        for (name, value) in self.settings.as_object().into_iter().flatten() {
            table = table.row([name.clone(), value.to_string()]);
        }
        table.row(["written by cifar-lab", &self.version]).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AirbenchConfig, AirbenchNet, TestTimeViews};
    use crate::notebook::show::assert_shows;
    use candle_cnn::layers::{Linear, linear};
    use candle_cnn::ops::relu;
    use candle_cnn::parameters::Parameters;

    /// A residual block with candle's own addition, which reports nothing.
    struct Residual(Linear, Linear);

    impl ModuleT for Residual {
        fn forward_t(&self, x: &Tensor, train: bool) -> candle_core::Result<Tensor> {
            let x = x.flatten_from(1)?;
            let y = relu(&self.0.forward_t(&x, train)?)?;
            relu(&(self.1.forward_t(&y, train)? + y)?)
        }
    }

    #[test]
    fn branches_and_operations_that_report_nothing_are_drawn() -> Result<()> {
        let vb = Parameters::new(0).var_builder(&Device::Cpu);
        let network = Residual(linear(12, 5, vb.pp("a"))?, linear(5, 5, vb.pp("b"))?);
        let trace = forward_trace(&network, &Tensor::zeros((1, 3, 2, 2), DType::F32, &Device::Cpu)?)?;
        assert!(!trace.figure()?.text().contains("list"));
        let graph = trace.graph();
        let titles: Vec<&str> = graph.nodes.iter().map(|node| node.title.as_str()).collect();
        // input → flatten (candle's) → a → ReLU → b → addition (candle's, from b and ReLU) → ReLU
        assert_eq!(titles, ["input", "operation", "a", "ReLU", "b", "operation", "ReLU"]);
        let mut edges = graph.edges.clone();
        edges.sort();
        assert_eq!(edges, [(0, 1), (1, 2), (2, 3), (3, 4), (3, 5), (4, 5), (5, 6)]);
        let groups: Vec<LayerGroup> = graph.nodes[2..5].iter().map(|node| node.group).collect();
        assert_eq!(groups, [LayerGroup::Dense, LayerGroup::Activation, LayerGroup::Dense]);
        Ok(())
    }

    /// The parameters in the summary's last row.
    fn total(network: &impl ModuleT) -> Result<String> {
        let text = summary(network, (1, 3, 32, 32), &Device::Cpu)?.to_string();
        let total = text.lines().find(|line| line.contains("total")).expect("a total");
        Ok(total.split_whitespace().rev().nth(1).expect("a number").to_string())
    }

    #[test]
    fn a_network_that_is_called_six_times_has_its_parameters_once() -> Result<()> {
        let config = AirbenchConfig { channels: vec![8, 16, 16], ..AirbenchConfig::default() };
        let net = AirbenchNet::new(&config, Parameters::new(0).var_builder(&Device::Cpu))?;
        assert_eq!(total(&TestTimeViews::new(net.clone()))?, total(&net)?);
        Ok(())
    }

    #[test]
    fn layers_of_one_name_each_have_their_parameters() -> Result<()> {
        let layer = |inputs, seed| linear(inputs, 5, Parameters::new(seed).var_builder(&Device::Cpu).pp("fc"));
        let network = Residual(layer(12, 0)?, layer(5, 1)?);
        let total = summary(&network, (1, 3, 2, 2), &Device::Cpu)?.to_string();
        assert!(total.lines().any(|line| line.contains("total") && line.contains(" 95 ")), "{total}");
        Ok(())
    }

    #[test]
    fn it_shows_its_layers() -> Result<()> {
        let config =
            NetConfig { image_size: 16, in_channels: 1, channels: vec![4], dense: vec![], ..NetConfig::default() };
        let text = Net::new(&config, Parameters::new(0).var_builder(&Device::Cpu))?.view().text().to_string();
        assert!(text.contains("Input 1 × 1 × 16 × 16") && text.contains("fc1"), "{text}");
        Ok(())
    }

    #[test]
    fn a_model_card_shows_its_figures() {
        assert_shows(
            &ModelCard { accuracy: Some(0.757), ..ModelCard::default() }.view(),
            &["plane car bird", "75.7 %"],
        );
    }
}
