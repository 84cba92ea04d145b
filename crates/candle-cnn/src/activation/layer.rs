use candle_core::{Result, Tensor};
use candle_nn::Module;

use super::gelu::of_form;
use super::relu;
use crate::config::Gelu;

/// [`ops::relu`](crate::ops::relu) as a layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Relu;

impl Module for Relu {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        relu(x)
    }
}

impl Module for Gelu {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        of_form(x, *self)
    }
}
