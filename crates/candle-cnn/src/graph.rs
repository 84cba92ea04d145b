//! Nodes of candle's graph with any number of inputs, whose output has been computed beforehand.
//!
//! A custom op of candle takes at most three tensors. A node with more hangs the others on carriers: ops with an
//! output of one element that only pass on the gradients that the node's backward pass has left for them.

use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::element::{Element, storage};
use crate::identity;

/// Gradients of a node's inputs; `None` for an input that no variable leads to.
pub(crate) type Gradients = Vec<Option<Tensor>>;

type Backward = dyn Fn(&Tensor) -> Result<Gradients> + Send + Sync;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What a node and its carriers share: gradients that were computed and not yet fetched.
#[derive(Default)]
struct Slot(Mutex<Gradients>);

impl Slot {
    fn take(&self, index: usize) -> Option<Tensor> {
        lock(&self.0).get_mut(index).and_then(Option::take)
    }
}

struct Node {
    name: &'static str,
    output: Mutex<Option<(Storage, Shape)>>,
    backward: Option<Box<Backward>>,
    slot: Arc<Slot>,
    /// Place of this op's first input among the node's inputs.
    first: usize,
    /// Whether the last input is a carrier.
    carries: bool,
}

impl Node {
    fn on_cpu(&self) -> Result<(CpuStorage, Shape)> {
        match lock(&self.output).take() {
            Some((Storage::Cpu(storage), shape)) => Ok((storage, shape)),
            _ => candle_core::bail!("internal: {} was applied twice, or on another device", self.name),
        }
    }

    fn on_cuda(&self) -> Result<(CudaStorage, Shape)> {
        match lock(&self.output).take() {
            Some((Storage::Cuda(storage), shape)) => Ok((storage, shape)),
            _ => candle_core::bail!("internal: {} was applied twice, or on another device", self.name),
        }
    }

    fn gradients<const N: usize>(&self, grad: &Tensor) -> Result<[Option<Tensor>; N]> {
        if let Some(backward) = &self.backward {
            let gradients = backward(&grad.contiguous()?)?;
            *lock(&self.slot.0) = gradients;
        }
        let own = if self.carries { N - 1 } else { N };
        let mut taken: [Option<Tensor>; N] =
            std::array::from_fn(|i| if i < own { self.slot.take(self.first + i) } else { None });
        if self.carries {
            // A carrier's own gradient means nothing, but candle must see one to visit the carrier.
            taken[own] = Some(Tensor::zeros(1, grad.dtype(), grad.device())?);
        }
        Ok(taken)
    }
}

impl CustomOp1 for Node {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.on_cpu()
    }
    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.on_cuda()
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [a] = self.gradients(grad)?;
        Ok(a)
    }
}

impl CustomOp2 for Node {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.on_cpu()
    }
    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.on_cuda()
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [a, b] = self.gradients(grad)?;
        Ok((a, b))
    }
}

impl CustomOp3 for Node {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.on_cpu()
    }
    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.on_cuda()
    }
    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [a, b, c] = self.gradients(grad)?;
        Ok((a, b, c))
    }
}

/// Puts `output` of shape `shape`, computed on the CPU from `inputs`, into candle's graph: see [`node_of`].
pub(crate) fn node<T: Element>(
    name: &'static str,
    inputs: &[&Tensor],
    output: Vec<T>,
    shape: &[usize],
    backward: impl Fn(&Tensor) -> Result<Gradients> + Send + Sync + 'static,
) -> Result<Tensor> {
    node_of(name, inputs, Storage::Cpu(storage(output)), shape, backward)
}

/// One value on the device of `like`; which one does not matter.
fn carried(like: &Storage) -> Result<Storage> {
    match like {
        #[cfg(feature = "cuda")]
        Storage::Cuda(like) => Ok(Storage::Cuda(crate::cuda::uninitialised::<f32>(&like.device, 1)?)),
        Storage::Cpu(CpuStorage::F64(_)) => Ok(Storage::Cpu(storage(vec![0f64]))),
        _ => Ok(Storage::Cpu(storage(vec![0f32]))),
    }
}

/// Puts `output` of shape `shape`, computed from `inputs` on their device, into candle's graph.
///
/// `backward` gets the output's gradient, contiguous, and returns one entry per input: a gradient for each input
/// whose `track_op()` holds, `None` for the others. Refuses inputs whose gradients candle would mix with others'.
pub(crate) fn node_of(
    name: &'static str,
    inputs: &[&Tensor],
    output: Storage,
    shape: &[usize],
    backward: impl Fn(&Tensor) -> Result<Gradients> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !inputs.iter().any(|input| input.track_op()) {
        return Ok(Tensor::from_storage(output, shape, BackpropOp::none(), false));
    }
    let given = inputs;
    let slot = Arc::new(Slot::default());
    // From the last inputs to the first: the node itself takes two and a carrier, or three.
    let mut inputs: Vec<Tensor> = inputs.iter().map(|&input| input.clone()).collect();
    let mut carries = false;
    while inputs.len() > 3 {
        let first = inputs.len() - if carries { 3 } else { 2 };
        let arguments = inputs.split_off(first);
        let carrier = (carried(&output)?, Shape::from(1));
        inputs.push(apply(name, arguments, carrier, None, &slot, first, carries)?);
        carries = true;
    }
    let output = (output, Shape::from(shape));
    let output = apply(name, inputs, output, Some(Box::new(backward)), &slot, 0, carries)?;
    identity::check_operation(name, given, &output)?;
    Ok(output)
}

fn apply(
    name: &'static str,
    inputs: Vec<Tensor>,
    output: (Storage, Shape),
    backward: Option<Box<Backward>>,
    slot: &Arc<Slot>,
    first: usize,
    carries: bool,
) -> Result<Tensor> {
    let output = Mutex::new(Some(output));
    let node = Node { name, output, backward, slot: slot.clone(), first, carries };
    match inputs.as_slice() {
        [a] => a.apply_op1(node),
        [a, b] => a.apply_op2(b, node),
        [a, b, c] => a.apply_op3(b, c, node),
        _ => candle_core::bail!("internal: {name} was built with {} inputs", inputs.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// y = Σ (i + 1) · xᵢ for n inputs: each input's gradient is its factor, whichever carrier it hangs on.
    #[test]
    fn each_input_gets_its_own_gradient() -> Result<()> {
        for n in 1..=9 {
            let vars = (0..n).map(|_| Var::new(&[2f32], &Device::Cpu)).collect::<Result<Vec<_>>>()?;
            let constant = n / 2;
            let inputs: Vec<Tensor> = vars
                .iter()
                .enumerate()
                .map(|(i, v)| if i == constant && n > 1 { v.as_detached_tensor() } else { v.as_tensor().clone() })
                .collect();
            let inputs: Vec<&Tensor> = inputs.iter().collect();
            let tracked: Vec<bool> = inputs.iter().map(|x| x.track_op()).collect();
            let y = node("sum", &inputs, vec![0f32], &[1], move |grad| {
                let one = |(i, &tracked): (usize, &bool)| tracked.then(|| grad * (i + 1) as f64).transpose();
                tracked.iter().enumerate().map(one).collect()
            })?;
            let gradients = (y * 3.)?.backward()?;
            for (i, var) in vars.iter().enumerate() {
                let found = gradients.get(var).map(|g| g.to_vec1::<f32>()).transpose()?;
                let wanted = (n == 1 || i != constant).then(|| vec![3. * (i + 1) as f32]);
                assert_eq!(found, wanted, "input {i} of {n}");
            }
        }
        Ok(())
    }
}
