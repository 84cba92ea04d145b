//! Initial values: PyTorch's, and others that a layer's weight can be set to.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Init, VarBuilder};
use rayon::prelude::*;

use crate::check;
use crate::linalg::eigh;

/// A parameter with PyTorch's default initial values for convolutions and linear layers: U(−1/√fan_in, 1/√fan_in).
pub(crate) fn uniform_by_fan_in(vb: &VarBuilder, shape: &[usize], name: &str, fan_in: usize) -> Result<Tensor> {
    let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
    vb.get_with_hints(shape, name, Init::Uniform { lo: -bound, up: bound })
}

/// The number of trained values in some parameters.
pub(crate) fn count(parameters: &[Option<&Tensor>]) -> usize {
    parameters.iter().flatten().map(|parameter| parameter.elem_count()).sum()
}

/// Makes a convolution without groups pass its input channels on: output channel i < C becomes input channel i, by a 1 at
/// the middle of the kernel and zeros around it; further output channels keep their weights. As
/// `torch.nn.init.dirac_(weight[:C])` for a `weight` `[O, C, KH, KW]`.
///
/// ```
/// use candle_cnn::init::dirac;
/// use candle_core::{DType, Device, Var};
/// let weight = Var::ones((2, 1, 1, 3), DType::F32, &Device::Cpu)?;
/// dirac(&weight)?;
/// assert_eq!(weight.flatten_all()?.to_vec1::<f32>()?, [0., 1., 0., 1., 1., 1.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If `weight` is not `[O, C, KH, KW]`.
pub fn dirac(weight: &Var) -> Result<()> {
    let [outputs, inputs, height, width] = check::dims4("dirac", "the weight", weight)?;
    let same = outputs.min(inputs);
    let mut identity = vec![0f32; same * inputs * height * width];
    for channel in 0..same {
        identity[((channel * inputs + channel) * height + height / 2) * width + width / 2] = 1.0;
    }
    let identity = Tensor::from_vec(identity, (same, inputs, height, width), &Device::Cpu)?;
    let identity = identity.to_dtype(weight.dtype())?.to_device(weight.device())?;
    let rest = weight.as_detached_tensor().narrow(0, same, outputs - same)?;
    weight.set(&if outputs > same { Tensor::cat(&[&identity, &rest], 0)? } else { identity })
}

/// Filters `[2 · C · K², C, K, K]` whose outputs on `images` `[N, C, H, W]` are uncorrelated and, up to `eps`, of the same
/// size: the eigenvectors of the second moment of all K×K patches, those with the largest eigenvalues λ first, each
/// divided by √(λ + eps), and then their negatives. (Whitening as an initial value: Page, 2023,
/// <https://github.com/tysam-code/hlb-CIFAR10>; the negatives and eps = 5·10⁻⁴: Jordan, "94% on CIFAR-10 in 3.29 Seconds
/// on a Single GPU", 2024, section 3.2.)
///
/// ```
/// use candle_core::{Device, Tensor};
/// let images = Tensor::randn(0f32, 2., (50, 1, 6, 6), &Device::Cpu)?;
/// let filters = candle_cnn::init::whitening(&images, 2, 5e-4)?;
/// assert_eq!(filters.dims(), [8, 1, 2, 2]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If `images` is not `[N, C, H, W]` and of a floating-point type, the patches are larger than the images, `eps` is
/// negative or not finite, or a value is NaN or infinite.
pub fn whitening(images: &Tensor, kernel: usize, eps: f64) -> Result<Tensor> {
    const NAME: &str = "whitening";
    let [_, c, h, w] = check::dims4(NAME, "the images", images)?;
    check::float(NAME, "the images", images)?;
    check::positive(NAME, "kernel", kernel)?;
    check::not_negative(NAME, "eps", eps)?;
    if kernel > h.min(w) {
        return Err(check::shape(NAME, "the images", images, format!("at least {kernel} pixels in each direction")));
    }
    let values = images.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    let size = c * kernel * kernel;
    // The upper triangle of Σ patch · patchᵀ, image by image: added up in the images' order whatever the threads.
    let of_image = |image: &[f64]| {
        let (mut moment, mut patch) = (vec![0.0; size * size], vec![0.0; size]);
        for corner in (0..=h - kernel).flat_map(|y| (0..=w - kernel).map(move |x| y * w + x)) {
            for (i, value) in patch.iter_mut().enumerate() {
                let (channel, row, column) = (i / (kernel * kernel), i / kernel % kernel, i % kernel);
                *value = image[channel * h * w + corner + row * w + column];
            }
            for (i, row) in moment.chunks_exact_mut(size).enumerate() {
                for (sum, value) in row[i..].iter_mut().zip(&patch[i..]) {
                    *sum += patch[i] * value;
                }
            }
        }
        moment
    };
    let moments: Vec<Vec<f64>> = values.par_chunks_exact(c * h * w).map(of_image).collect();
    let patches = (moments.len() * (h - kernel + 1) * (w - kernel + 1)) as f64;
    let mut moment = vec![0.0; size * size];
    for of_image in &moments {
        moment.iter_mut().zip(of_image).for_each(|(sum, value)| *sum += value / patches);
    }
    let (eigenvalues, vectors) = eigh(&Tensor::from_vec(moment, (size, size), &Device::Cpu)?)?;
    let (eigenvalues, vectors) = (eigenvalues.to_vec1::<f64>()?, vectors.t()?.to_vec2::<f64>()?);
    // An eigenvalue of 0 may come out below it.
    let scaled = |(value, vector): (&f64, &Vec<f64>)| {
        let size = (value.max(0.0) + eps).sqrt();
        vector.iter().map(|v| v / size).collect::<Vec<f64>>()
    };
    let filters: Vec<f64> = eigenvalues.iter().zip(&vectors).rev().flat_map(scaled).collect();
    let filters = Tensor::from_vec(filters, (size, c, kernel, kernel), &Device::Cpu)?;
    Tensor::cat(&[&filters, &filters.neg()?], 0)?.to_dtype(images.dtype())?.to_device(images.device())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The filters' outputs have the second moment λ / (λ + eps) on the diagonal and 0 elsewhere, for any image.
    #[test]
    fn whitened_patches_are_uncorrelated() -> Result<()> {
        let (n, c, side, kernel, eps) = (7, 3, 9, 2, 5e-4);
        let values: Vec<f64> =
            (0..n * c * side * side).map(|i| ((i * i) as f64).sin() + (i as f64 * 0.1).cos()).collect();
        let images = Tensor::from_vec(values, (n, c, side, side), &Device::Cpu)?;
        let filters = whitening(&images, kernel, eps)?;
        let half = c * kernel * kernel;
        assert_eq!(filters.dims(), [2 * half, c, kernel, kernel]);
        let outputs = images.conv2d(&filters, 0, 1, 1, 1)?.transpose(0, 1)?.contiguous()?.flatten_from(1)?;
        let count = outputs.dim(1)? as f64;
        let moment = (outputs.matmul(&outputs.t()?)? / count)?.to_vec2::<f64>()?;
        for (i, row) in moment.iter().enumerate() {
            for (j, value) in row.iter().enumerate() {
                let wanted = if i % half == j % half { if i == j { 1.0 } else { -1.0 } } else { 0.0 };
                assert!((value - wanted).abs() < 0.02, "({i}, {j}): {value}");
                if i % half != j % half {
                    assert!(value.abs() < 1e-12, "({i}, {j}): {value}");
                }
            }
        }
        Ok(())
    }
}
