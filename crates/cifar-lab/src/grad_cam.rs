//! Grad-CAM: where a network looks.
//!
//! R. R. Selvaraju et al.: "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV
//! 2017 (<https://arxiv.org/abs/1610.02391>). With a convolution's feature maps A and a class's logit y, the weight α
//! of a feature map is the mean of ∂y/∂A over all positions, and the class's map is ReLU(Σ α A): bright where the
//! features speak for the class.

use candle_cnn::trace::{self, LayerCall};
use candle_core::{D, DType, Tensor};
use candle_nn::ModuleT;

use crate::device::between_steps;
use crate::error::{Error, Result};

/// For each image, a map of what speaks for a class; made by [`grad_cam`].
#[derive(Clone, Debug)]
pub struct GradCam {
    maps: Tensor,
    pub(crate) layer: String,
}

/// The Grad-CAM maps of `images` `[N, C, H, W]` (normalized as in training): where the feature maps of `layer` speak
/// for each image's class in `classes`. `network` runs in evaluation mode.
///
/// The feature maps are `layer`'s output after the batch norm and ReLU that directly follow it. Works with any network
/// built from candle-cnn's layers, including one defined in a notebook's cell.
///
/// ```
/// use candle_cnn::parameters::Parameters;
/// use candle_core::{Device, Tensor};
/// use cifar_lab::{grad_cam::grad_cam, model::Net};
///
/// let net = Net::new(&Default::default(), Parameters::new(0).var_builder(&Device::Cpu))?;
/// let images = Tensor::randn(0f32, 1., (2, 3, 32, 32), &Device::Cpu)?;
/// let cam = grad_cam(&net, &images, "conv3", &[3, 5])?;
/// assert_eq!(cam.maps().dims(), [2, 8, 8]);
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// [`Error::Setting`] if no layer of that name gives feature maps `[N, C, H, W]` (the message lists those that do), if
/// the numbers of classes and images differ, and for a class that the network doesn't have; [`Error::NotFinite`] if a
/// class's logit or map is NaN or infinite.
pub fn grad_cam(network: &impl ModuleT, images: &Tensor, layer: &str, classes: &[usize]) -> Result<GradCam> {
    grad_cam_any(network, images, layer, classes)
}

/// Not generic: a cell would compile it for its network.
fn grad_cam_any(network: &dyn ModuleT, images: &Tensor, layer: &str, classes: &[usize]) -> Result<GradCam> {
    between_steps(images.device(), || grad_cam_now(network, images, layer, classes))
}

fn grad_cam_now(network: &dyn ModuleT, images: &Tensor, layer: &str, classes: &[usize]) -> Result<GradCam> {
    let (logits, calls) = trace::record(|| network.forward_t(images, false));
    let (count, told) = logits?.dims2()?;
    if classes.len() != count {
        let reason = format!("each of the {count} images needs one");
        return Err(Error::Setting { name: "the number of classes", value: classes.len().to_string(), reason });
    }
    if let Some(class) = classes.iter().find(|&&class| class >= told) {
        let reason = format!("the network has {told} classes, numbered from 0");
        return Err(Error::Setting { name: "class", value: class.to_string(), reason });
    }
    let no_maps = || {
        let mut names: Vec<&str> =
            calls.iter().filter(|call| gives_maps(call)).map(|call| call.name.as_str()).collect();
        names.dedup();
        let reason = format!("the layers with feature maps that the logits depend on are {}", names.join(", "));
        Error::Setting { name: "layer", value: format!("{layer:?}"), reason }
    };
    // If a layer is used twice, the use closer to the logits.
    let first = calls.iter().rposition(|call| gives_maps(call) && call.name == layer).ok_or_else(no_maps)?;
    let place = end_of_block(&calls, first);
    let (logits, calls) = trace::record_cut_after(place, || network.forward_t(images, false));
    let logits = logits?;
    // In evaluation mode the images are independent, so one backward pass serves them all.
    let chosen: Vec<u32> = classes.iter().map(|&class| class as u32).collect();
    let chosen = Tensor::from_vec(chosen, (count, 1), logits.device())?;
    let chosen = logits.gather(&chosen, 1)?;
    check(&chosen, |image| format!("the logit of class {} for image {image}", classes[image]))?;
    let gradients = chosen.sum_all()?.backward()?;
    let maps = &calls[place].output;
    let gradient = gradients.get(maps).ok_or_else(no_maps)?;
    let weights = gradient.mean_keepdim(D::Minus1)?.mean_keepdim(D::Minus2)?;
    let maps = maps.detach().broadcast_mul(&weights.detach())?.sum(1)?;
    // candle's `relu` turns NaN into 0, as if nothing spoke for the class.
    check(&maps, |image| format!("the map of image {image}"))?;
    let maps = maps.relu()?;
    Ok(GradCam { maps, layer: layer.to_string() })
}

/// Rejects values `[N, …]` that are not finite; `what` names an image's values.
fn check(values: &Tensor, what: impl Fn(usize) -> String) -> Result<()> {
    let rows = values.detach().to_dtype(DType::F32)?.flatten_from(1)?.to_vec2::<f32>()?;
    let found = |(image, row): (usize, &Vec<f32>)| Some((image, *row.iter().find(|value| !value.is_finite())?));
    match rows.iter().enumerate().find_map(found) {
        Some((image, value)) => Err(Error::NotFinite { what: what(image), value }),
        None => Ok(()),
    }
}

fn gives_maps(call: &LayerCall) -> bool {
    !call.name.is_empty() && call.output.rank() == 4
}

/// The last call of the batch norm and ReLU that directly follow call `first`.
fn end_of_block(calls: &[LayerCall], first: usize) -> usize {
    let mut last = first;
    while let Some(next) = calls.get(last + 1) {
        let follows = next.inputs.iter().any(|input| input.id() == calls[last].output.id());
        if !(follows && matches!(next.kind, "BatchNorm2d" | "ReLU")) {
            break;
        }
        last += 1;
    }
    last
}

impl GradCam {
    /// The maps, `[N, h, w]`, of the same size as the layer's feature maps. Values are at least 0; 0 means that nothing
    /// there speaks for the class.
    pub fn maps(&self) -> &Tensor {
        &self.maps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_cnn::layers::{BatchNorm2d, BatchNormConfig, Conv2d, Linear, batch_norm2d, conv2d, linear};
    use candle_cnn::ops::{flatten, relu};
    use candle_cnn::parameters::Parameters;
    use candle_core::{Device, Result as CandleResult};

    /// A network as a learner would write it.
    struct Small {
        conv: Conv2d,
        bn: BatchNorm2d,
        fc1: Linear,
        fc2: Linear,
    }

    impl Small {
        fn new(parameters: &Parameters) -> CandleResult<Self> {
            let vb = parameters.var_builder(&Device::Cpu);
            Ok(Self {
                conv: conv2d(3, 4, 3, Default::default(), vb.pp("conv1"))?,
                bn: batch_norm2d(4, BatchNormConfig::default(), vb.pp("bn1"))?,
                fc1: linear(4 * 3 * 2, 6, vb.pp("fc1"))?,
                fc2: linear(6, 5, vb.pp("fc2"))?,
            })
        }
    }

    impl ModuleT for Small {
        fn forward_t(&self, x: &Tensor, train: bool) -> CandleResult<Tensor> {
            let x = relu(&self.bn.forward_t(&self.conv.forward_t(x, train)?, train)?)?;
            self.fc2.forward_t(&relu(&self.fc1.forward_t(&flatten(&x)?, train)?)?, train)
        }
    }

    fn values(tensor: &Tensor) -> Vec<f64> {
        tensor.detach().to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    /// weight `[out, in]` · x + bias, by plain loops.
    fn dense(parameters: &Parameters, name: &str, x: &[f64]) -> Vec<f64> {
        let get = |part: &str| values(&parameters.get(&format!("{name}.{part}")).unwrap());
        let rows = get("weight");
        let dot = |row: &[f64]| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
        rows.chunks(x.len()).zip(get("bias")).map(|(row, bias)| dot(row) + bias).collect()
    }

    #[test]
    fn maps_are_those_of_plain_loops_with_gradients_by_differences() -> Result<()> {
        let parameters = Parameters::new(5);
        let network = Small::new(&parameters)?;
        let images = Tensor::from_vec(
            (0..2 * 3 * 5 * 4).map(|i| (0.7 * i as f32).sin()).collect::<Vec<_>>(),
            (2, 3, 5, 4),
            &Device::Cpu,
        )?;
        let classes = [4, 1];
        let found = grad_cam(&network, &images, "conv1", &classes)?;
        assert_eq!(found.maps().dims(), [2, 3, 2]);

        // The feature maps after the ReLU, the third call.
        let (_, calls) = trace::record(|| network.forward_t(&images, false));
        let features = values(&calls[2].output);
        let logit = |features: &[f64], class: usize| {
            let hidden: Vec<f64> = dense(&parameters, "fc1", features).into_iter().map(|x| x.max(0.0)).collect();
            dense(&parameters, "fc2", &hidden)[class]
        };
        let mut wanted = Vec::new();
        for (image, &class) in features.chunks(4 * 6).zip(&classes) {
            let step = 1e-6;
            let slope = |place: usize| {
                let moved = |by: f64| {
                    let mut image = image.to_vec();
                    image[place] += by;
                    logit(&image, class)
                };
                (moved(step) - moved(-step)) / (2.0 * step)
            };
            let weight = |channel: usize| (0..6).map(|place| slope(6 * channel + place)).sum::<f64>() / 6.0;
            let weights: Vec<f64> = (0..4).map(weight).collect();
            wanted.extend((0..6).map(|place| {
                let sum: f64 = (0..4).map(|channel| weights[channel] * image[6 * channel + place]).sum();
                sum.max(0.0)
            }));
        }
        let size = wanted.iter().copied().fold(0.0, f64::max);
        assert!(size > 1e-3, "the maps are not zero: {wanted:?}");
        for (found, wanted) in values(found.maps()).iter().zip(&wanted) {
            assert!((found - wanted).abs() <= 1e-5 * size, "{found} {wanted}");
        }
        Ok(())
    }

    #[test]
    fn a_network_that_runs_fused_has_its_maps_too() -> Result<()> {
        let parameters = Parameters::new(0);
        let config = crate::model::NetConfig { channels: vec![4, 8], dense: vec![], ..Default::default() };
        let net = crate::model::Net::new(&config, parameters.var_builder(&Device::Cpu))?;
        let images = Tensor::randn(0f32, 1., (3, 3, 32, 32), &Device::Cpu)?;
        let before = values(&net.forward_t(&images, false)?);
        assert_eq!(grad_cam(&net, &images, "conv2", &[0, 1, 2])?.maps().dims(), [3, 16, 16]);
        assert_eq!(values(&net.forward_t(&images, false)?), before, "nothing has been changed");
        Ok(())
    }

    #[test]
    fn impossible_requests_are_explained() -> Result<()> {
        let network = Small::new(&Parameters::new(0))?;
        let images = Tensor::zeros((2, 3, 5, 4), DType::F32, &Device::Cpu)?;
        let refused =
            |layer: &str, classes: &[usize]| grad_cam(&network, &images, layer, classes).unwrap_err().to_string();
        assert!(refused("conv9", &[0, 0]).contains("conv1, bn1"), "{}", refused("conv9", &[0, 0]));
        assert!(refused("fc1", &[0, 0]).contains("layer = \"fc1\" is not possible"));
        assert!(refused("conv1", &[0]).contains("each of the 2 images"));
        assert!(refused("conv1", &[0, 5]).contains("has 5 classes"));
        Ok(())
    }

    #[test]
    fn values_that_are_not_finite_give_no_map() -> Result<()> {
        let parameters = Parameters::new(0);
        let network = Small::new(&parameters)?;
        let mut pixels = vec![0.5f32; 2 * 3 * 5 * 4];
        pixels[3 * 5 * 4] = f32::NAN;
        let images = Tensor::from_vec(pixels, (2, 3, 5, 4), &Device::Cpu)?;
        let error = grad_cam(&network, &images, "conv1", &[0, 4]).unwrap_err();
        assert!(matches!(error, Error::NotFinite { value, .. } if value.is_nan()), "{error}");
        assert!(error.to_string().starts_with("the logit of class 4 for image 1 is NaN: "), "{error}");
        // A map that is no number while its class's logit is one: ∞ in a weight that only the gradient meets.
        let images = Tensor::zeros((1, 3, 5, 4), DType::F32, &Device::Cpu)?;
        let image = |_: usize| "the map of image 0".to_string();
        let error = check(&(images / 0.0)?, image).unwrap_err().to_string();
        assert!(error.starts_with("the map of image 0 is NaN: "), "{error}");
        Ok(())
    }
}
