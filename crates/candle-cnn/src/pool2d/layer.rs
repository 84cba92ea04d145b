//! Layers without parameters.

use candle_core::{Result, Tensor};
use candle_nn::Module;

use crate::ops;

/// [`ops::relu`] as a layer.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_nn::Module;
/// let y = candle_cnn::layers::Relu.forward(&Tensor::new(&[-1f32, 1.], &Device::Cpu)?)?;
/// assert_eq!(y.to_vec1::<f32>()?, [0., 1.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Relu;

impl Module for Relu {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::relu(x)
    }
}

/// [`ops::flatten`] as a layer.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::Module;
/// let x = Tensor::zeros((2, 3, 4), DType::F32, &Device::Cpu)?;
/// assert_eq!(candle_cnn::layers::Flatten.forward(&x)?.dims(), [2, 12]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Flatten;

impl Module for Flatten {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::flatten(x)
    }
}

macro_rules! pool {
    ($name:ident, $op:ident) => {
        #[doc = concat!("[`ops::", stringify!($op), "`] as a layer.")]
        ///
        /// ```
        /// use candle_core::{DType, Device, Tensor};
        /// use candle_nn::Module;
        #[doc = concat!("let pool = candle_cnn::layers::", stringify!($name), "::new(2, 2);")]
        /// let x = Tensor::zeros((1, 3, 8, 8), DType::F32, &Device::Cpu)?;
        /// assert_eq!(pool.forward(&x)?.dims(), [1, 3, 4, 4]);
        /// # Ok::<(), candle_core::Error>(())
        /// ```
        #[derive(Clone, Copy, Debug)]
        pub struct $name {
            kernel: usize,
            stride: usize,
        }

        impl $name {
            /// Windows of `kernel` × `kernel` pixels, `stride` apart.
            pub fn new(kernel: usize, stride: usize) -> Self {
                Self { kernel, stride }
            }

            /// Side of a window, in pixels.
            pub fn kernel(&self) -> usize {
                self.kernel
            }

            /// Distance of two windows, in pixels.
            pub fn stride(&self) -> usize {
                self.stride
            }
        }

        impl Module for $name {
            fn forward(&self, x: &Tensor) -> Result<Tensor> {
                ops::$op(x, self.kernel, self.stride)
            }
        }
    };
}
pool!(MaxPool2d, max_pool2d);
pool!(AvgPool2d, avg_pool2d);
