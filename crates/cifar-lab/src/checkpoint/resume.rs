//! Checkpoints: parameters, buffers and the optimizer's state in one safetensors file, so that training resumes as if
//! it had never stopped.

use candle_cnn::optim::{AdamW, Muon, SGD};
use candle_cnn::parameters::Parameters;
use candle_cnn::step_graph::{StepGraph, StepResult};
use candle_core::{DType, Device, Tensor};
use candle_nn::Optimizer;
use md5::{Digest, Md5};
use safetensors::{SafeTensors, View};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::file::{Format, damaged, read_as, save_tensors};
use crate::checksum::hexadecimal;
use crate::error::{Error, Result};

/// An optimizer whose state can be saved and restored.
pub trait ResumableOptimizer: Optimizer {
    /// A copy of the state as named tensors, for example momentum buffers.
    ///
    /// # Errors
    /// If the device runs out of memory.
    fn state(&self) -> candle_core::Result<HashMap<String, Tensor>>;

    /// Restores a state from [`Self::state`].
    ///
    /// # Errors
    /// If it doesn't match the optimizer's parameters; then nothing is changed.
    fn load_state(&mut self, state: &HashMap<String, Tensor>) -> candle_core::Result<()>;

    /// The initial settings as text: a run with other settings can't be resumed.
    fn settings(&self) -> String;

    /// Each group's learning rate.
    fn learning_rates(&self) -> Vec<f64>;

    /// Sets each group's learning rate.
    ///
    /// # Errors
    /// If there is not one for each group, or one is negative or not finite.
    fn set_learning_rates(&mut self, rates: &[f64]) -> candle_core::Result<()>;

    /// Runs a training step as a CUDA graph; `None` if the optimizer doesn't support graphs.
    ///
    /// # Errors
    /// Those of [`StepGraph::run`].
    fn step_by_graph(
        &mut self,
        _graph: &mut StepGraph<'_>,
        _images: &Tensor,
        _labels: &Tensor,
    ) -> candle_core::Result<Option<StepResult>> {
        Ok(None)
    }
}

/// Implements the trait by the methods of the same names that candle-cnn's optimizers have. `by graph` adds that a step can
/// be run as a CUDA graph.
macro_rules! resumable {
    ($optimizer:ident $($by_graph:ident graph)?) => {
        impl ResumableOptimizer for $optimizer {
            fn state(&self) -> candle_core::Result<HashMap<String, Tensor>> {
                $optimizer::state(self)
            }

            fn load_state(&mut self, state: &HashMap<String, Tensor>) -> candle_core::Result<()> {
                $optimizer::load_state(self, state)
            }

            fn settings(&self) -> String {
                format!("{:?}", self.initial_configs())
            }

            fn learning_rates(&self) -> Vec<f64> {
                $optimizer::learning_rates(self)
            }

            fn set_learning_rates(&mut self, rates: &[f64]) -> candle_core::Result<()> {
                $optimizer::set_learning_rates(self, rates)
            }

            $(resumable!($by_graph graph);)?
        }
    };
    (by graph) => {
        fn step_by_graph(
            &mut self,
            graph: &mut StepGraph<'_>,
            images: &Tensor,
            labels: &Tensor,
        ) -> candle_core::Result<Option<StepResult>> {
            graph.run(self, images, labels).map(Some)
        }
    };
}

resumable!(SGD by graph);
resumable!(AdamW by graph);
resumable!(Muon);

/// The prefixes of tensor names in a checkpoint's two parts.
const PARTS: [&str; 2] = ["model.", "optimizer."];

/// The metadata key for the number of finished epochs.
const EPOCHS_DONE: &str = "epochs_done";

/// The metadata key for the optimizer's settings.
const OPTIMIZER: &str = "optimizer";

/// The metadata key for the groups' learning rates, in JSON.
const LEARNING_RATES: &str = "learning_rates";

/// The metadata key for the [`checksum`].
const CHECKSUM: &str = "checksum";

/// Writes a checkpoint to `path`: parameters, buffers, the optimizer's state, settings and learning rates, the number of
/// finished epochs, and `notes` (names and texts of your own). If the write fails, the old file stays.
///
/// ```
/// use candle_cnn::{optim::{SGD, SgdConfig}, parameters::Parameters};
/// use candle_nn::Optimizer;
/// use cifar_lab::checkpoint::{load_checkpoint, save_checkpoint};
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("checkpoint.safetensors");
/// let parameters = Parameters::new(0);
/// candle_nn::linear(4, 2, parameters.var_builder(&candle_core::Device::Cpu))?;
/// let mut sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
/// save_checkpoint(&parameters, &path, &sgd, 3, &[])?;
/// assert_eq!(load_checkpoint(&parameters, &path, &mut sgd)?, 3);
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] if the file can't be written, [`Error::NotFinite`] if a value is NaN or infinite: training can't
/// resume from there.
pub fn save_checkpoint(
    parameters: &Parameters,
    path: impl AsRef<Path>,
    optimizer: &impl ResumableOptimizer,
    epochs_done: usize,
    notes: &[(&str, &str)],
) -> Result<()> {
    let (settings, rates) = (optimizer.settings(), optimizer.learning_rates());
    write(parameters, path.as_ref(), optimizer.state()?, &settings, rates, epochs_done, notes)
}

/// Not generic: a cell would compile it for its optimizer.
fn write(
    parameters: &Parameters,
    path: &Path,
    optimizer: HashMap<String, Tensor>,
    settings: &str,
    rates: Vec<f64>,
    epochs_done: usize,
    notes: &[(&str, &str)],
) -> Result<()> {
    let mut tensors = HashMap::new();
    for (part, state) in PARTS.into_iter().zip([parameters.state_dict()?, optimizer]) {
        for (name, tensor) in state {
            let tensor = tensor.to_device(&Device::Cpu)?;
            check_finite(&name, &tensor)?;
            tensors.insert(format!("{part}{name}"), tensor);
        }
    }
    let (rates, epochs_done) = (serde_json::Value::from(rates).to_string(), epochs_done.to_string());
    let own = [(OPTIMIZER, settings), (LEARNING_RATES, rates.as_str()), (EPOCHS_DONE, epochs_done.as_str())];
    let mut notes: BTreeMap<&str, &str> = notes.iter().copied().chain(own).collect();
    notes.remove(CHECKSUM);
    let checksum = checksum(tensors.iter(), &notes);
    notes.insert(CHECKSUM, &checksum);
    save_tensors(tensors, path, &notes.into_iter().collect::<Vec<_>>())
}

fn check_finite(name: &str, tensor: &Tensor) -> Result<()> {
    if tensor.dtype().is_float() {
        let values = tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        if let Some(&value) = values.iter().find(|value| !value.is_finite()) {
            return Err(Error::NotFinite { what: name.to_string(), value });
        }
    }
    Ok(())
}

/// A checksum over a checkpoint's contents, whatever their order in the file. It detects damage, not tampering.
fn checksum<V: View>(tensors: impl Iterator<Item = (impl AsRef<str>, V)>, notes: &BTreeMap<&str, &str>) -> String {
    let mut sum = Md5::new();
    // The lengths keep ("ab", "c") and ("a", "bc") apart.
    let mut add = |bytes: &[u8]| {
        sum.update(bytes.len().to_le_bytes());
        sum.update(bytes);
    };
    for (name, text) in notes {
        add(name.as_bytes());
        add(text.as_bytes());
    }
    let mut tensors: Vec<_> = tensors.collect();
    tensors.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
    for (name, tensor) in &tensors {
        add(name.as_ref().as_bytes());
        add(format!("{:?} {:?}", tensor.dtype(), tensor.shape()).as_bytes());
        add(&tensor.data());
    }
    hexadecimal(sum)
}

/// A checkpoint's contents, verified and in memory.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    model: HashMap<String, Tensor>,
    optimizer: HashMap<String, Tensor>,
    epochs_done: usize,
    /// `None` in checkpoints from before they were noted.
    learning_rates: Option<Vec<f64>>,
    notes: HashMap<String, String>,
}

impl Checkpoint {
    /// Reads the checkpoint at `path`.
    ///
    /// # Errors
    /// [`Error::File`] if it can't be read, [`Error::Weights`] if it is damaged or not a checkpoint.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = read_as(path, Format::Safetensors)?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| damaged(path, &error))?;
        let notes = metadata.metadata().clone().unwrap_or_default();
        let epochs_done = notes.get(EPOCHS_DONE).and_then(|text| text.parse().ok());
        let epochs_done = epochs_done.ok_or_else(|| damaged(path, &"it has weights, but is not a checkpoint"))?;
        let rates = notes.get(LEARNING_RATES).map(|rates| serde_json::from_str(rates)).transpose();
        let learning_rates = rates.map_err(|error| damaged(path, &format!("{LEARNING_RATES}: {error}")))?;
        // Checkpoints from before version 0.2 have none.
        if let Some(wanted) = notes.get(CHECKSUM) {
            let tensors = SafeTensors::deserialize(&bytes).map_err(|error| damaged(path, &error))?;
            let signed = notes.iter().map(|(name, text)| (name.as_str(), text.as_str()));
            let signed = signed.filter(|(name, _)| *name != CHECKSUM).collect();
            if checksum(tensors.iter(), &signed) != *wanted {
                return Err(damaged(path, &"it is damaged: its checksum doesn't match"));
            }
        }
        let [mut model, mut optimizer] = [HashMap::new(), HashMap::new()];
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu);
        for (name, tensor) in tensors.map_err(|error| damaged(path, &Error::from(error)))? {
            match PARTS.map(|part| name.strip_prefix(part).map(str::to_string)) {
                [Some(name), _] => model.insert(name, tensor),
                [_, Some(name)] => optimizer.insert(name, tensor),
                _ => return Err(damaged(path, &format!("{name} belongs to neither the model nor the optimizer"))),
            };
        }
        Ok(Self { model, optimizer, epochs_done, learning_rates, notes })
    }

    /// The note called `name`.
    pub(crate) fn note(&self, name: &str) -> Option<&str> {
        self.notes.get(name).map(String::as_str)
    }

    /// Checks that the network's parameters match the checkpoint.
    ///
    /// # Errors
    /// Lists all differences in names and shapes.
    pub(crate) fn check(&self, parameters: &Parameters) -> Result<()> {
        Ok(parameters.check_state_dict(&self.model)?)
    }

    /// Restores parameters, buffers, and the optimizer's state and learning rates.
    ///
    /// # Errors
    /// [`Error::Setting`] if it was made with another optimizer or other settings, candle's if names or shapes differ. Then
    /// nothing is changed.
    pub(crate) fn restore(&self, parameters: &Parameters, optimizer: &mut impl ResumableOptimizer) -> Result<()> {
        let settings = optimizer.settings();
        if let Some(made_with) = self.note(OPTIMIZER).filter(|made_with| *made_with != settings) {
            let reason = format!("the checkpoint was made with {made_with}");
            return Err(Error::Setting { name: "optimizer", value: settings, reason });
        }
        // Each of the three changes nothing if it fails; together they must not either.
        let (rates, state) = (optimizer.learning_rates(), optimizer.state()?);
        optimizer.set_learning_rates(self.learning_rates.as_ref().unwrap_or(&rates))?;
        let loaded = optimizer.load_state(&self.optimizer).and_then(|()| parameters.load_state_dict(&self.model));
        if loaded.is_err() {
            optimizer.set_learning_rates(&rates)?;
            optimizer.load_state(&state)?;
        }
        Ok(loaded?)
    }
}

/// Restores parameters, buffers, and the optimizer's state and learning rates from a checkpoint. Returns the number of
/// finished epochs, which is also the next epoch, counted from 0.
///
/// # Errors
/// [`Error::File`] if it can't be read, [`Error::Weights`] if it is damaged or not a checkpoint, [`Error::Setting`] if it
/// was made with another optimizer or other settings, and candle's error if it belongs to another network. In each case,
/// nothing is changed.
pub fn load_checkpoint(
    parameters: &Parameters,
    path: impl AsRef<Path>,
    optimizer: &mut impl ResumableOptimizer,
) -> Result<usize> {
    let checkpoint = Checkpoint::read(path.as_ref())?;
    checkpoint.restore(parameters, optimizer)?;
    Ok(checkpoint.epochs_done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AirbenchConfig, AirbenchNet};
    use candle_cnn::optim::{AdamWConfig, MuonConfig, ParameterGroup, SgdConfig};
    use candle_core::Var;
    use candle_nn::ModuleT;

    fn layer(outputs: usize, seed: u64) -> Result<Parameters> {
        let parameters = Parameters::new(seed);
        candle_nn::linear(3, outputs, parameters.var_builder(&Device::Cpu).pp("fc"))?;
        Ok(parameters)
    }

    /// An optimizer after one step, so that it has state.
    fn stepped(parameters: &Parameters) -> Result<SGD> {
        let mut sgd = SGD::new(parameters.trainable(), SgdConfig { momentum: 0.9, ..SgdConfig::default() })?;
        let sum = |var: &Var| var.sqr()?.sum_all();
        let losses = parameters.trainable().iter().map(sum).collect::<candle_core::Result<Vec<Tensor>>>()?;
        sgd.backward_step(&Tensor::stack(&losses, 0)?.sum_all()?)?;
        Ok(sgd)
    }

    fn values(tensors: &HashMap<String, Tensor>) -> Result<Vec<(String, Vec<f32>)>> {
        let values = tensors.iter().map(|(name, tensor)| Ok((name.clone(), tensor.flatten_all()?.to_vec1()?)));
        let mut values: Vec<(String, Vec<f32>)> = values.collect::<Result<_>>()?;
        values.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(values)
    }

    #[test]
    fn rates_of_other_groups_change_nothing() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        let (saved, other) = (layer(2, 1)?, layer(2, 2)?);
        let sgd = stepped(&saved)?;
        write(&saved, &path, sgd.state()?, &sgd.settings(), vec![0.1, 0.2], 3, &[])?;
        let (mut sgd, before) = (stepped(&other)?, values(&other.state_dict()?.into_iter().collect())?);
        let state = values(&sgd.state()?)?;
        assert!(load_checkpoint(&other, &path, &mut sgd).is_err());
        assert_eq!(values(&other.state_dict()?.into_iter().collect())?, before);
        assert_eq!(values(&sgd.state()?)?, state);
        Ok(())
    }

    /// Both optimizers in one, and a network with weights that are not trained.
    #[test]
    fn a_muon_goes_on_to_the_bit() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        let config = AirbenchConfig { channels: vec![4, 6, 6], ..AirbenchConfig::default() };
        let images =
            Tensor::from_vec((0..8 * 3 * 32 * 32).map(|i| (i as f32).sin()).collect(), (8, 3, 32, 32), &Device::Cpu)?;
        let labels = Tensor::from_vec((0..8u32).collect(), 8, &Device::Cpu)?;
        let make = |seed| -> Result<(AirbenchNet, Parameters, Muon)> {
            let parameters = Parameters::new(seed);
            let net = AirbenchNet::new(&config, parameters.var_builder(&Device::Cpu))?;
            let groups = net.parameters()?;
            let others = [vec![groups.whitening_bias, groups.head], groups.norm_biases].concat();
            let sgd = SgdConfig { momentum: 0.9, nesterov: true, ..SgdConfig::default() };
            let muon = ParameterGroup { vars: groups.filters, config: MuonConfig::default() };
            Ok((net, parameters, Muon::with_sgd(vec![muon], vec![ParameterGroup { vars: others, config: sgd }])?))
        };
        let step = |net: &AirbenchNet, muon: &mut Muon| -> Result<()> {
            let loss = candle_cnn::ops::cross_entropy(&net.forward_t(&images, true)?, &labels)?;
            Ok(muon.backward_step(&loss)?)
        };
        let (net, parameters, mut muon) = make(1)?;
        net.whiten(&images)?;
        let filters = parameters.get("whiten.weight").expect("filters").as_detached_tensor().copy()?;
        step(&net, &mut muon)?;
        save_checkpoint(&parameters, &path, &muon, 1, &[])?;
        step(&net, &mut muon)?;
        let (again, loaded, mut resumed) = make(2)?;
        load_checkpoint(&loaded, &path, &mut resumed)?;
        step(&again, &mut resumed)?;
        let (wanted, found) = (parameters.state_dict()?, loaded.state_dict()?);
        assert_eq!(found["whiten.weight"].flatten_all()?.to_vec1::<f32>()?, filters.flatten_all()?.to_vec1::<f32>()?);
        for (name, tensor) in &wanted {
            let [found, wanted] =
                [&found[name], tensor].map(|tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>());
            assert_eq!(found?, wanted?, "{name}");
        }
        assert_eq!(values(&muon.state()?)?, values(&resumed.state()?)?);
        Ok(())
    }

    #[test]
    fn a_checkpoint_that_does_not_fit_changes_neither_weights_nor_optimizer() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        let (saved, mine) = (layer(2, 1)?, layer(2, 2)?);
        let mut sgd = stepped(&mine)?;
        let before = (values(&mine.state_dict()?)?, values(&sgd.state()?)?);
        // The weights fit, but the state is another optimizer's.
        let adamw = AdamW::new(saved.trainable(), AdamWConfig::default())?;
        let mut state = adamw.state()?;
        state.insert("exp_avg.0".into(), Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu)?);
        let tensors = saved.state_dict()?.into_iter().map(|(name, tensor)| (format!("model.{name}"), tensor));
        let states = state.into_iter().map(|(name, tensor)| (format!("optimizer.{name}"), tensor));
        save_tensors(tensors.chain(states).collect(), &path, &[(EPOCHS_DONE, "3")])?;
        assert!(load_checkpoint(&mine, &path, &mut sgd).unwrap_err().to_string().contains("exp_avg.0"));
        assert_eq!((values(&mine.state_dict()?)?, values(&sgd.state()?)?), before);
        // The state fits, but the weights have other names.
        let other = Parameters::new(3);
        candle_nn::linear(3, 2, other.var_builder(&Device::Cpu).pp("head"))?;
        save_checkpoint(&other, &path, &stepped(&other)?, 3, &[])?;
        assert!(load_checkpoint(&mine, &path, &mut sgd).is_err());
        assert_eq!((values(&mine.state_dict()?)?, values(&sgd.state()?)?), before);
        Ok(())
    }
}
