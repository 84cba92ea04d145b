// y in one cell and w in another: d(Σ y·w)/dy is w. If each cell had its own counter of tensor ids, y and w would share an id,
// and their gradients would be added up: 11, 22, 33, 44.
// %%
:dep cifar-lab = { path = "../crates/cifar-lab" }
use cifar_lab::prelude::*;
// %%
let y: Var = Var::new(&[1f32, 2., 3., 4.], &Device::Cpu)?;
// %%
let w: Var = Var::new(&[10f32, 20., 30., 40.], &Device::Cpu)?;
// %%
let sum: Tensor = y.mul(&w)?.sum_all()?;
let gradients = sum.backward()?;
for (index, value) in gradients.get(&y).unwrap().to_vec1::<f32>()?.iter().enumerate() {
    println!("y {index} {value}");
}
