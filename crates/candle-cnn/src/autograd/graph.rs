//! Nodes in candle's graph with any number of inputs, whose output is already computed.
//!
//! A candle custom op takes at most three tensors. A node with more attaches the others to carriers: ops with one
//! output element that only pass on the gradients computed by the node's backward pass.
//!
//! [`backward`] needs neither carriers nor the zeros that candle adds every gradient to: it looks up each node's
//! backward pass by its output's id.

use candle_core::backprop::GradStore;
use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, TensorId,
};
use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, Weak};

use super::identity;
use crate::check::{self, Backend};
use crate::element::{Element, storage, tensor, values};
use crate::sums::added;

/// Gradients of a node's inputs; `None` for an input that no variable leads to.
pub(crate) type Gradients = Vec<Option<Tensor>>;

type Backward = dyn Fn(&Tensor) -> Result<Gradients> + Send + Sync;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Shared by a node and its carriers: computed gradients not yet fetched.
#[derive(Default)]
struct Slot(Mutex<Gradients>);

impl Slot {
    fn take(&self, index: usize) -> Option<Tensor> {
        lock(&self.0).get_mut(index).and_then(Option::take)
    }
}

/// Computes the gradients of a node's inputs from its output's.
struct Step {
    inputs: Vec<TensorId>,
    backward: Box<Backward>,
    /// A note for the operation that uses the output: see [`set_note`].
    note: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// The nodes and carriers whose outputs live.
static LIVING: LazyLock<Mutex<HashMap<TensorId, Known>>> = LazyLock::new(Mutex::default);

/// What is known of an output.
enum Known {
    /// Weak, so that no step, and the nodes it owns, is dropped under the lock.
    Node(Weak<Step>),
    Carrier,
}

/// The entry of an output in [`LIVING`], once it has one.
#[derive(Default)]
struct Entry(OnceLock<TensorId>);

impl Entry {
    fn set(&self, id: TensorId, known: Known) {
        lock(&LIVING).insert(id, known);
        // Set once: a node has one output.
        let _ = self.0.set(id);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(id) = self.0.get() {
            lock(&LIVING).remove(id);
        }
    }
}

struct Node {
    name: &'static str,
    output: Mutex<Option<(Storage, Shape)>>,
    /// Of a node; a carrier has none.
    step: Option<Arc<Step>>,
    /// As long as this lives, the output does.
    _entry: Arc<Entry>,
    slot: Arc<Slot>,
    /// The index of this op's first input among the node's inputs.
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
        if let Some(step) = &self.step {
            let gradients = (step.backward)(&grad.contiguous()?)?;
            *lock(&self.slot.0) = gradients;
        }
        let own = if self.carries { N - 1 } else { N };
        let mut taken: [Option<Tensor>; N] =
            std::array::from_fn(|i| if i < own { self.slot.take(self.first + i) } else { None });
        if self.carries {
            // A carrier's own gradient is meaningless, but candle only visits ops that have one.
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

/// An arbitrary value on the device of `like`.
fn carried(like: &Storage) -> Result<Storage> {
    match like {
        #[cfg(feature = "cuda")]
        Storage::Cuda(like) => Ok(Storage::Cuda(crate::cuda::uninitialized::<f32>(&like.device, 1)?)),
        Storage::Cpu(CpuStorage::F64(_)) => Ok(Storage::Cpu(storage(vec![0f64]))),
        _ => Ok(Storage::Cpu(storage(vec![0f32]))),
    }
}

/// Puts `output` of shape `shape`, computed from `inputs` on their device, into candle's graph.
///
/// `backward` gets the output's gradient, contiguous, and returns one entry per input: a gradient for each input
/// whose `track_op()` holds, `None` for the others. Rejects inputs whose gradients candle would mix up.
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
    let inputs_of_step = inputs.iter().map(|input| input.id()).collect();
    let step = Step { inputs: inputs_of_step, backward: Box::new(backward), note: OnceLock::new() };
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
    let output = apply(name, inputs, output, Some(Arc::new(step)), &slot, 0, carries)?;
    identity::check_operation(name, given, &output)?;
    Ok(output)
}

fn apply(
    name: &'static str,
    inputs: Vec<Tensor>,
    output: (Storage, Shape),
    step: Option<Arc<Step>>,
    slot: &Arc<Slot>,
    first: usize,
    carries: bool,
) -> Result<Tensor> {
    let output = Mutex::new(Some(output));
    let entry = Arc::new(Entry::default());
    let known = step.as_ref().map_or(Known::Carrier, |step| Known::Node(Arc::downgrade(step)));
    let node = Node { name, output, step, _entry: entry.clone(), slot: slot.clone(), first, carries };
    let output = match inputs.as_slice() {
        [a] => a.apply_op1(node),
        [a, b] => a.apply_op2(b, node),
        [a, b, c] => a.apply_op3(b, c, node),
        _ => candle_core::bail!("internal: {name} was built with {} inputs", inputs.len()),
    }?;
    entry.set(output.id(), known);
    Ok(output)
}

/// Attaches a note on how `output`, a node, was computed, for an operation that uses it and can differentiate both at
/// once. The note must not hold `output` itself, which then would never be freed. Only nodes carry notes.
pub(crate) fn set_note<T: Any + Send + Sync>(output: &Tensor, note: T) {
    if let Some(step) = step_of(output) {
        // Set once: by the operation that has just made the node.
        let _ = step.note.set(Box::new(note));
    }
}

/// A tensor's note, if it has one of this type.
pub(crate) fn note<T: Any + Clone>(tensor: &Tensor) -> Option<T> {
    step_of(tensor)?.note.get()?.downcast_ref().cloned()
}

fn step_of(tensor: &Tensor) -> Option<Arc<Step>> {
    match lock(&LIVING).get(&tensor.id())? {
        Known::Node(step) => step.upgrade(),
        Known::Carrier => None,
    }
}

/// The gradients of `loss` with respect to the variables it was computed from: the same as `loss.backward()`, but
/// faster if all operations in between are this crate's.
///
/// candle adds each gradient to zeros. Here the first one that reaches a tensor is used as it is, and only further ones
/// are added. With other operations in the graph, such as candle's arithmetic, this is `loss.backward()`.
///
/// ```
/// use candle_cnn::{backward, ops};
/// use candle_core::{Device, Tensor, Var};
/// let weight = Var::new(&[[0.5f32, 0.0], [0.0, 0.5]], &Device::Cpu)?;
/// let logits = ops::linear(&Tensor::new(&[[1f32, 2.]], &Device::Cpu)?, &weight, None)?;
/// let loss = ops::cross_entropy(&logits, &Tensor::new(&[1u32], &Device::Cpu)?)?;
/// let gradients = backward(&loss)?;
/// assert_eq!(gradients.get(&weight).expect("one").dims(), [2, 2]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// As `loss.backward()`.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    // The output first; inputs behind what was computed from them.
    let nodes = loss.sorted_nodes();
    let Some(steps) = steps_of(&nodes) else { return loss.backward() };
    let mut gradients = GradStore::default();
    gradients.insert(loss, loss.ones_like()?.contiguous()?);
    for (node, step) in nodes.into_iter().zip(steps) {
        let Some(step) = step else { continue };
        let Some(gradient) = gradients.remove(node) else { continue };
        for (&input, gradient) in step.inputs.iter().zip((step.backward)(&gradient.contiguous()?)?) {
            let Some(gradient) = gradient else { continue };
            let sum = match gradients.get_id(input) {
                Some(before) => sum_of(before, &gradient)?,
                None => gradient,
            };
            // Nothing recorded while computing gradients is ever differentiated.
            gradients.insert_id(input, sum.detach());
        }
    }
    Ok(gradients)
}

/// The sum of two gradients.
fn sum_of(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    match check::backend(x) {
        Backend::CpuF32 => {
            let (x, y) = (x.contiguous()?, y.contiguous()?);
            tensor(added(&values::<f32>(&x)?, &values::<f32>(&y)?), x.dims())
        }
        _ => x.add(y),
    }
}

/// The steps of these nodes, `None` for variables and carriers; nothing where one is not this crate's.
fn steps_of(nodes: &[&Tensor]) -> Option<Vec<Option<Arc<Step>>>> {
    let living = lock(&LIVING);
    let step = |node: &&Tensor| match living.get(&node.id()) {
        _ if node.is_variable() => Some(None),
        Some(Known::Node(step)) => step.upgrade().map(Some),
        Some(Known::Carrier) => Some(None),
        None => None,
    };
    nodes.iter().map(step).collect()
}

/// Whether [`backward`] uses its own pass.
#[cfg(test)]
pub(crate) fn is_own(loss: &Tensor) -> bool {
    steps_of(&loss.sorted_nodes()).is_some()
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

    /// y = Σ xᵢ, whatever the gradient.
    fn sum(inputs: &[&Tensor]) -> Result<Tensor> {
        let tracked: Vec<bool> = inputs.iter().map(|x| x.track_op()).collect();
        let values = inputs.iter().map(|x| Ok(x.to_vec1::<f32>()?[0])).collect::<Result<Vec<_>>>()?;
        node("sum", inputs, vec![values.iter().sum::<f32>()], &[1], move |grad| {
            Ok(tracked.iter().map(|&tracked| tracked.then(|| grad.clone())).collect())
        })
    }

    fn number(gradients: &GradStore, var: &Var) -> Result<Vec<f32>> {
        gradients.get(var).expect("a gradient").to_vec1()
    }

    #[test]
    fn gradients_that_meet_are_added() -> Result<()> {
        let [a, b] = [2f32, 3.].map(|value| Var::new(&[value], &Device::Cpu)).map(|var| var.expect("a variable"));
        let constant = a.as_detached_tensor();
        let both = sum(&[&a, &b, &constant, &a, &b, &a])?;
        let loss = sum(&[&both, &both, &b, &constant])?;
        let (found, wanted) = (backward(&loss)?, loss.backward()?);
        assert_eq!((number(&found, &a)?, number(&found, &b)?), (vec![6.], vec![5.]));
        assert_eq!((number(&wanted, &a)?, number(&wanted, &b)?), (vec![6.], vec![5.]));
        assert_eq!(found.get_ids().count(), 2, "those of the variables alone");
        Ok(())
    }

    #[test]
    fn other_operations_are_candles() -> Result<()> {
        let a = Var::new(&[2f32], &Device::Cpu)?;
        let loss = sum(&[&a.sqr()?, &a])?;
        assert_eq!(steps_of(&loss.sorted_nodes()).map(|steps| steps.len()), None);
        assert_eq!(number(&backward(&loss)?, &a)?, [5.]);
        let gradients = backward(&a)?;
        assert_eq!(number(&gradients, &a)?, [1.]);
        Ok(())
    }

    #[test]
    fn nothing_is_kept_of_what_is_gone() -> Result<()> {
        let a = Var::new(&[2f32], &Device::Cpu)?;
        let living = |id| lock(&LIVING).contains_key(&id);
        let first = sum(&[&a, &a, &a, &a])?;
        let second = sum(&[&first, &a])?;
        let ids = [first.id(), second.id()];
        drop(first);
        assert!(ids.into_iter().all(living), "the second holds the first");
        // A note is kept as long as its node.
        set_note(&second, a.as_tensor().clone());
        assert_eq!(note::<Tensor>(&second).map(|note| note.id()), Some(a.id()));
        assert!(note::<u8>(&second).is_none() && note::<Tensor>(&a).is_none());
        drop(second);
        assert!(!ids.into_iter().any(living));
        Ok(())
    }
}
