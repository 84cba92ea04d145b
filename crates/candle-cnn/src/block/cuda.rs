//! Convolution, batch norm, ReLU and 2×2 max-pool on a GPU, as one node of the graph.

use candle_core::{Result, Tensor};

use super::separate::gradients_in_inference;
use crate::autograd::graph::{Gradients, node_of};
use crate::batch_norm2d::cuda::Statistics;
use crate::batch_norm2d::layer::BatchNorm2d;
use crate::chain::{Inputs, NAME};
use crate::config::ConvBlockConfig;
use crate::conv2d::cuda::{self, convolve, gradients};
use crate::conv2d::geometry::Geometry;
use crate::cuda::launch::{Block, Channels};
use crate::cuda::{Gpu, address};

pub(crate) fn serves(g: &Geometry) -> bool {
    cuda::serves(g) && g.oh >= 2 && g.ow >= 2
}

fn block(g: &Geometry) -> Block {
    Block { n: g.n, c: g.o, rows: g.oh, columns: g.ow }
}

fn shape(g: &Geometry) -> [usize; 4] {
    [g.n, g.o, g.oh / 2, g.ow / 2]
}

pub(crate) fn train(inputs: Inputs, bn: &BatchNorm2d, g: Geometry) -> Result<Tensor> {
    let (gpu, block) = (Gpu::of(&inputs.x)?, block(&g));
    // Without the convolution's bias: the batch's mean would take it out again.
    let y = convolve(&gpu, &inputs.x, &inputs.weight, None, &g)?.into_tensor(&[g.n, g.o, g.oh, g.ow]);
    let channels = Channels::new(g.n, g.o, g.oh * g.ow);
    let statistics = Statistics::of_batch(&gpu, &y, channels, Some(bn.running()), inputs.bias.as_ref(), bn.config())?;
    let normalizer = statistics.normalizer(inputs.gamma.as_ref(), inputs.beta.as_ref())?;
    let count = shape(&g).iter().product();
    let (pooled, winners) = (gpu.empty::<f32>(count)?, gpu.empty::<u8>(count)?);
    gpu.run(block.forward(address::<f32>(&y)?, &normalizer, pooled.at(), winners.at()))?;

    let saved = inputs.clone();
    node_of(NAME, &inputs.list(), pooled.into_storage(), &shape(&g), move |grad| -> Result<Gradients> {
        let (dpooled, y) = (address::<f32>(grad)?, address::<f32>(&y)?);
        let normalizer = statistics.normalizer(saved.gamma.as_ref(), None)?;
        let sums = gpu.empty::<f64>(block.channels().sums())?;
        gpu.run(block.gradient_sums(dpooled, winners.at(), y, normalizer.mean, sums.at()))?;
        let [dgamma, dbeta] = [gpu.empty::<f32>(g.o)?, gpu.empty::<f32>(g.o)?];
        let vectors = (dgamma.at(), dbeta.at());
        gpu.run(block.channels().gradients(sums.at(), normalizer.inverse, vectors.0, vectors.1))?;
        let dy = gpu.empty::<f32>(g.n * g.o * g.oh * g.ow)?;
        gpu.run(block.backward((dpooled, winners.at()), y, &normalizer, vectors, dy.at()))?;
        let wanted = [saved.x.track_op(), saved.weight.track_op()];
        let mut all: Gradients = gradients(&gpu, &saved.x, &saved.weight, dy.at(), &g, wanted)?.into();
        if let Some(bias) = &saved.bias {
            all.push(bias.track_op().then(|| bias.detach().zeros_like()).transpose()?);
        }
        for (input, gradient) in [(&saved.gamma, dgamma), (&saved.beta, dbeta)] {
            if let Some(input) = input {
                all.push(input.track_op().then(|| gradient.into_tensor(&[g.o])));
            }
        }
        Ok(all)
    })
}

pub(crate) fn infer(inputs: Inputs, bn: &BatchNorm2d, g: Geometry) -> Result<Tensor> {
    let (gpu, block) = (Gpu::of(&inputs.x)?, block(&g));
    let y = convolve(&gpu, &inputs.x, &inputs.weight, inputs.bias.as_ref(), &g)?;
    let channels = Channels::new(g.n, g.o, g.oh * g.ow);
    let statistics = Statistics::of_running(&gpu, channels, bn.running(), bn.config().eps)?;
    let normalizer = statistics.normalizer(inputs.gamma.as_ref(), inputs.beta.as_ref())?;
    let pooled = gpu.empty::<f32>(shape(&g).iter().product())?;
    gpu.run(block.forward(y.at(), &normalizer, pooled.at(), 0))?;
    let (saved, bn) = (inputs.clone(), bn.clone());
    node_of(NAME, &inputs.list(), pooled.into_storage(), &shape(&g), move |grad| {
        gradients_in_inference(&saved, &bn, ConvBlockConfig::default(), grad)
    })
}
