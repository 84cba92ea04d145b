//! The block as separate operations.

use candle_core::{Result, Tensor, Var};
use candle_nn::{Module, ModuleT};

use crate::activation::gelu::of_form;
use crate::activation::relu;
use crate::autograd::graph::Gradients;
use crate::batch_norm2d::layer::BatchNorm2d;
use crate::chain::Inputs;
use crate::config::{Activation, BlockPool, ConvBlockConfig};
use crate::conv2d::layer::Conv2d;
use crate::pool2d::max_pool2d;

pub(super) fn separate(
    conv: &Conv2d,
    bn: &BatchNorm2d,
    config: ConvBlockConfig,
    x: &Tensor,
    train: bool,
) -> Result<Tensor> {
    let pooled = |x: Tensor, place: BlockPool| if config.pool == place { max_pool2d(&x, 2, 2) } else { Ok(x) };
    let y = pooled(conv.forward(x)?, BlockPool::BeforeNorm)?;
    let y = bn.forward_t(&y, train)?;
    let y = match config.activation {
        Activation::Relu => relu(&y)?,
        Activation::Gelu(form) => of_form(&y, form)?,
        Activation::None => y,
    };
    pooled(y, BlockPool::Last)
}

/// Gradients in inference mode are rare (Grad-CAM), so nothing is kept for them; the separate operations run again.
pub(super) fn gradients_in_inference(
    inputs: &Inputs,
    bn: &BatchNorm2d,
    config: ConvBlockConfig,
    grad: &Tensor,
) -> Result<Gradients> {
    let vars = inputs.list().iter().map(|t| Var::from_tensor(&t.detach())).collect::<Result<Vec<_>>>()?;
    let mut rest = vars[2..].iter();
    let mut next = |present: bool| if present { rest.next().map(|var| var.as_tensor().clone()) } else { None };
    let conv = Conv2d::new(vars[1].as_tensor().clone(), next(inputs.bias.is_some()), inputs.config);
    let (weight, bias) = (next(inputs.gamma.is_some()), next(inputs.beta.is_some()));
    let bn = BatchNorm2d::new(bn.running().clone(), weight, bias, bn.config())?;
    let y = separate(&conv, &bn, config, &vars[0], false)?;
    let store = (y * grad)?.sum_all()?.backward()?;
    let wanted = inputs.list().into_iter().zip(&vars);
    Ok(wanted.map(|(input, var)| store.get(var).filter(|_| input.track_op()).cloned()).collect())
}
