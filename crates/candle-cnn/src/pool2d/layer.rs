use candle_core::{Result, Tensor};
use candle_nn::Module;

use super::{avg_pool2d, max_pool2d};

macro_rules! pool {
    ($name:ident, $op:ident) => {
        #[doc = concat!("[`ops::", stringify!($op), "`](crate::ops::", stringify!($op), ") as a layer.")]
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
        }

        impl Module for $name {
            fn forward(&self, x: &Tensor) -> Result<Tensor> {
                $op(x, self.kernel, self.stride)
            }
        }
    };
}
pool!(MaxPool2d, max_pool2d);
pool!(AvgPool2d, avg_pool2d);
