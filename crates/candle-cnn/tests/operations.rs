//! Each operation against plain loops in f64, over shapes, layouts and settings drawn at random, and against finite
//! differences.

mod support;

use candle_cnn::ops::{self, BatchNormConfig, Conv2dConfig, CrossEntropyConfig, Reduction, RunningStatistics};
use candle_cnn::optim::{SGD, SgdConfig, clip_gradients_by_norm};
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::Optimizer;
use proptest::prelude::*;
use support::{Numbers, assert_close_values, flat};

/// The design's tolerance for operations in f32.
const TOLERANCE: f64 = 1e-5;

/// A tensor of `shape` whose memory is not what its shape says: transposed, with an offset, or both.
fn strided(numbers: &mut Numbers, shape: &[usize], layout: u8) -> Result<Tensor> {
    match layout % 4 {
        0 => numbers.tensor(shape),
        1 => {
            let mut swapped = shape.to_vec();
            let last = swapped.len() - 1;
            swapped.swap(last - 1, last);
            numbers.tensor(&swapped)?.transpose(last - 1, last)
        }
        2 => {
            let mut longer = shape.to_vec();
            longer[0] += 2;
            numbers.tensor(&longer)?.narrow(0, 1, shape[0])
        }
        _ => {
            let mut wider = shape.to_vec();
            let last = wider.len() - 1;
            wider[last] += 3;
            numbers.tensor(&wider)?.narrow(last, 2, shape[last])
        }
    }
}

/// Gradients of Σ y · dy with respect to each variable.
fn gradients(y: &Tensor, dy: &Tensor, vars: &[&Var]) -> Result<Vec<Vec<f64>>> {
    let store = (y * dy)?.sum_all()?.backward()?;
    vars.iter().map(|var| flat(store.get(var).expect("a gradient"))).collect()
}

#[derive(Debug, Clone)]
struct Convolution {
    n: usize,
    c: usize,
    h: usize,
    w: usize,
    o: usize,
    kh: usize,
    kw: usize,
    config: Conv2dConfig,
    bias: bool,
    layout: u8,
    seed: u64,
}

fn convolution() -> impl Strategy<Value = Convolution> {
    let config = (0usize..4, 1usize..4, 1usize..3, 1usize..4);
    let sizes = (1usize..4, 1usize..24, 1usize..36, 1usize..14, 1usize..14);
    let kernel = prop_oneof![3 => Just((3, 3)), 1 => (1usize..6, 1usize..6)];
    (sizes, kernel, config, any::<bool>(), any::<bool>(), 0u8..16, any::<u64>()).prop_map(
        |((n, c, o, h, w), (kh, kw), (padding, stride, dilation, groups), usual, bias, layout, seed)| {
            // Half of them as most networks have them.
            let config = if usual {
                Conv2dConfig { padding: kh / 2, ..Default::default() }
            } else {
                Conv2dConfig { padding, stride, dilation, groups }
            };
            let groups = config.groups;
            // The channels become multiples of the groups, the picture no smaller than the kernel.
            let room = |size: usize, kernel: usize| size.max(config.dilation * (kernel - 1) + 1);
            let (h, w) = (room(h, kh), room(w, kw));
            let (c, o) = (c.div_ceil(groups) * groups, o.div_ceil(groups) * groups);
            Convolution { n, c, h, w, o, kh, kw, config, bias, layout, seed }
        },
    )
}

impl Convolution {
    fn out(&self) -> (usize, usize) {
        let size = |input: usize, kernel: usize| {
            (input + 2 * self.config.padding - self.config.dilation * (kernel - 1) - 1) / self.config.stride + 1
        };
        (size(self.h, self.kh), size(self.w, self.kw))
    }

    /// Calls `f(place in x, place in weight, place in y)` for every product in the convolution.
    fn products(&self, mut f: impl FnMut(usize, usize, usize)) {
        let (oh, ow) = self.out();
        let (ic, oc) = (self.c / self.config.groups, self.o / self.config.groups);
        for n in 0..self.n {
            for o in 0..self.o {
                for oy in 0..oh {
                    for ox in 0..ow {
                        for c in 0..ic {
                            for ky in 0..self.kh {
                                for kx in 0..self.kw {
                                    let y = oy * self.config.stride + ky * self.config.dilation;
                                    let x = ox * self.config.stride + kx * self.config.dilation;
                                    let (Some(y), Some(x)) =
                                        (y.checked_sub(self.config.padding), x.checked_sub(self.config.padding))
                                    else {
                                        continue;
                                    };
                                    if y < self.h && x < self.w {
                                        let channel = o / oc * ic + c;
                                        f(
                                            ((n * self.c + channel) * self.h + y) * self.w + x,
                                            ((o * ic + c) * self.kh + ky) * self.kw + kx,
                                            ((n * self.o + o) * oh + oy) * ow + ox,
                                        );
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn check(&self) -> Result<()> {
        let mut numbers = Numbers::new(self.seed);
        let (oh, ow) = self.out();
        let x = Var::from_tensor(&strided(&mut numbers, &[self.n, self.c, self.h, self.w], 0)?)?;
        // The layout that the operation sees, with the variable behind it.
        let seen = match self.layout % 4 {
            0 => x.as_tensor().clone(),
            1 => x.transpose(2, 3)?.contiguous()?.transpose(2, 3)?,
            2 => Tensor::cat(&[x.as_tensor(), x.as_tensor()], 0)?.narrow(0, self.n, self.n)?,
            _ => x.pad_with_zeros(3, 2, 1)?.narrow(3, 2, self.w)?,
        };
        let weight = Var::from_tensor(&strided(
            &mut numbers,
            &[self.o, self.c / self.config.groups, self.kh, self.kw],
            self.layout / 4,
        )?)?;
        let bias = self.bias.then(|| numbers.var(&[self.o])).transpose()?;
        let y = ops::conv2d(&seen, &weight, bias.as_deref(), self.config)?;
        let dy = strided(&mut numbers, &[self.n, self.o, oh, ow], self.layout / 2)?;

        let (xs, ws, dys) = (flat(&x)?, flat(&weight)?, flat(&dy)?);
        let bs = bias.as_deref().map(flat).transpose()?.unwrap_or_else(|| vec![0.; self.o]);
        let mut ys: Vec<f64> = (0..dys.len()).map(|i| bs[i / (oh * ow) % self.o]).collect();
        let (mut dx, mut dw) = (vec![0.; xs.len()], vec![0.; ws.len()]);
        self.products(|x, w, y| {
            ys[y] += xs[x] * ws[w];
            dx[x] += ws[w] * dys[y];
            dw[w] += xs[x] * dys[y];
        });
        let mut db = vec![0.; self.o];
        dys.iter().enumerate().for_each(|(i, dy)| db[i / (oh * ow) % self.o] += dy);
        assert_close_values("y", &flat(&y)?, &ys, TOLERANCE);
        let mut vars = vec![&x, &weight];
        vars.extend(&bias);
        let found = gradients(&y, &dy, &vars)?;
        assert_close_values("dx", &found[0], &dx, TOLERANCE);
        assert_close_values("dweight", &found[1], &dw, TOLERANCE);
        if self.bias {
            assert_close_values("dbias", &found[2], &db, TOLERANCE);
        }
        Ok(())
    }
}

/// Batch norm by its definition, in f64: output, running mean and variance, gradients of x, weight and bias.
#[allow(clippy::type_complexity)]
fn batch_norm(
    x: &[f64],
    [n, c, plane]: [usize; 3],
    running: (&[f64], &[f64]),
    weight: &[f64],
    bias: &[f64],
    dy: &[f64],
    train: bool,
) -> (Vec<f64>, Vec<f64>, Vec<f64>, [Vec<f64>; 3]) {
    let mut y = vec![0.; x.len()];
    let mut dx = vec![0.; x.len()];
    let (mut dw, mut db) = (vec![0.; c], vec![0.; c]);
    let (mut mean, mut var) = (running.0.to_vec(), running.1.to_vec());
    for channel in 0..c {
        let places: Vec<usize> = (0..n).flat_map(|i| (0..plane).map(move |p| (i * c + channel) * plane + p)).collect();
        let count = places.len() as f64;
        let (m, v) = if train {
            let m = places.iter().map(|&i| x[i]).sum::<f64>() / count;
            let v = places.iter().map(|&i| (x[i] - m).powi(2)).sum::<f64>() / count;
            mean[channel] = 0.9 * mean[channel] + 0.1 * m;
            var[channel] = 0.9 * var[channel] + 0.1 * v * count / (count - 1.);
            (m, v)
        } else {
            (mean[channel], var[channel])
        };
        let s = 1. / (v + 1e-5).sqrt();
        for &i in &places {
            y[i] = (x[i] - m) * s * weight[channel] + bias[channel];
            db[channel] += dy[i];
            dw[channel] += dy[i] * (x[i] - m) * s;
        }
        for &i in &places {
            let centered = if train { (db[channel] + (x[i] - m) * s * dw[channel]) / count } else { 0. };
            dx[i] = weight[channel] * s * (dy[i] - centered);
        }
    }
    (y, mean, var, [dx, dw, db])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn convolution_and_its_gradients(case in convolution()) {
        case.check().unwrap();
    }

    /// What networks are made of most: here the fast paths are.
    #[test]
    fn usual_convolution_and_its_gradients(
        (n, c, o) in (1usize..12, 14usize..40, 14usize..70), (h, w) in (1usize..6, 1usize..6), odd in any::<[bool; 2]>(),
        padding in 0usize..3, bias: bool, layout in 0u8..16, seed: u64,
    ) {
        let [h, w] = [2 * h + usize::from(odd[0]), 2 * w + usize::from(odd[1])].map(|side| side.max(4));
        let config = Conv2dConfig { padding, ..Default::default() };
        Convolution { n, c, h, w, o, kh: 3, kw: 3, config, bias, layout, seed }.check().unwrap();
    }

    #[test]
    fn batch_norm_and_its_gradients(
        (n, c, h, w) in (1usize..5, 1usize..40, 1usize..10, 1usize..20),
        train: bool, layout in 0u8..4, offset in -50.0..50.0f64, seed: u64,
    ) {
        prop_assume!(!train || n * h * w > 1);
        // Two values further apart than eps: with fewer, 1/√(var + eps) magnifies what f32 rounds off.
        let mut numbers = Numbers::new(seed);
        let tensor = (strided(&mut numbers, &[n, c, h, w], layout).unwrap() + offset).unwrap();
        let x = Var::from_tensor(&tensor.contiguous().unwrap()).unwrap();
        let (weight, bias) = (numbers.var(&[c]).unwrap(), numbers.var(&[c]).unwrap());
        let mean = numbers.var(&[c]).unwrap();
        let var = Var::from_tensor(&(numbers.tensor(&[c]).unwrap() + 1.5).unwrap()).unwrap();
        let dy = strided(&mut numbers, &[n, c, h, w], layout / 2).unwrap();
        let (ms, vs) = (flat(&mean).unwrap(), flat(&var).unwrap());
        let wanted = batch_norm(&flat(&x).unwrap(), [n, c, h * w], (&ms, &vs), &flat(&weight).unwrap(),
            &flat(&bias).unwrap(), &flat(&dy).unwrap(), train);
        let running = RunningStatistics { mean, var, num_batches_tracked: None };
        let y = ops::batch_norm2d(&x, Some(&running), Some(&weight), Some(&bias), Default::default(), train).unwrap();
        // An input far from 0 has lost digits before the operation sees it: x is exact here, x − mean is not where
        // the variance is tiny (few values), so the tolerance grows with the condition number |x| / σ.
        let condition = if train && n * h * w < 4 { 1e3 } else { 1. + offset.abs() };
        let tolerance = TOLERANCE * if train { condition } else { 1. + offset.abs() };
        assert_close_values("y", &flat(&y).unwrap(), &wanted.0, tolerance);
        assert_close_values("mean", &flat(&running.mean).unwrap(), &wanted.1, TOLERANCE);
        assert_close_values("var", &flat(&running.var).unwrap(), &wanted.2, tolerance);
        let found = gradients(&y, &dy, &[&x, &weight, &bias]).unwrap();
        if n * h * w >= 16 {
            assert_close_values("dx", &found[0], &wanted.3[0], tolerance);
            assert_close_values("dweight", &found[1], &wanted.3[1], tolerance);
        }
        assert_close_values("dbias", &found[2], &wanted.3[2], tolerance);
    }

    #[test]
    fn pools_and_their_gradients(
        (n, c, h, w) in (1usize..4, 1usize..20, 1usize..12, 1usize..40),
        kernel in (1usize..5, 1usize..5), stride in (1usize..5, 1usize..5), two: bool, layout in 0u8..4, seed: u64,
    ) {
        let (kernel, stride) = if two { ((2, 2), (2, 2)) } else { (kernel, stride) };
        let (h, w) = (h.max(kernel.0), w.max(kernel.1));
        let mut numbers = Numbers::new(seed);
        // Rounded, so that windows have ties.
        let x = ((strided(&mut numbers, &[n, c, h, w], layout).unwrap() * 3.).unwrap()).round().unwrap();
        let x = Var::from_tensor(&x.contiguous().unwrap()).unwrap();
        let (oh, ow) = ((h - kernel.0) / stride.0 + 1, (w - kernel.1) / stride.1 + 1);
        let dy = strided(&mut numbers, &[n, c, oh, ow], layout).unwrap();
        let (xs, dys) = (flat(&x).unwrap(), flat(&dy).unwrap());
        let (mut max, mut avg) = (vec![], vec![]);
        let (mut dmax, mut davg) = (vec![0.; xs.len()], vec![0.; xs.len()]);
        for (i, dy) in dys.iter().enumerate() {
            let (plane, oy, ox) = (i / (oh * ow), i / ow % oh, i % ow);
            let places: Vec<usize> = (0..kernel.0 * kernel.1)
                .map(|k| (plane * h + oy * stride.0 + k / kernel.1) * w + ox * stride.1 + k % kernel.1)
                .collect();
            let best = places.iter().copied().reduce(|a, b| if xs[b] > xs[a] { b } else { a }).unwrap();
            max.push(xs[best]);
            dmax[best] += dy;
            let share = 1. / places.len() as f64;
            avg.push(places.iter().map(|&p| xs[p]).sum::<f64>() * share);
            places.iter().for_each(|&p| davg[p] += dy * share);
        }
        let y = ops::max_pool2d(&x, kernel, stride).unwrap();
        assert_close_values("max", &flat(&y).unwrap(), &max, 0.);
        assert_close_values("dmax", &gradients(&y, &dy, &[&x]).unwrap()[0], &dmax, TOLERANCE);
        // Without a gradient to come, another path may run.
        let y = ops::max_pool2d(&x.as_detached_tensor(), kernel, stride).unwrap();
        assert_close_values("max, detached", &flat(&y).unwrap(), &max, 0.);
        let y = ops::avg_pool2d(&x, kernel, stride).unwrap();
        assert_close_values("avg", &flat(&y).unwrap(), &avg, TOLERANCE);
        assert_close_values("davg", &gradients(&y, &dy, &[&x]).unwrap()[0], &davg, TOLERANCE);
    }

    /// Against f64, over the whole range in which the two forms are neither 0 nor x.
    #[test]
    fn gelu_and_its_gradients(shape in prop::collection::vec(1usize..20, 1..4), layout in 0u8..4, seed: u64) {
        let mut numbers = Numbers::new(seed);
        let shape = if shape.len() == 1 { vec![shape[0], 3] } else { shape };
        let x = (strided(&mut numbers, &shape, layout).unwrap() * 8.).unwrap();
        let dy = numbers.tensor(&shape).unwrap();
        for form in [ops::gelu, ops::gelu_tanh] {
            let run = |dtype: DType| {
                let x = Var::from_tensor(&x.to_dtype(dtype).unwrap()).unwrap();
                let y = form(&x).unwrap();
                let dx = gradients(&y, &dy.to_dtype(dtype).unwrap(), &[&x]).unwrap();
                // Beside a 1: in the tails the values are tiny, and only their size counts.
                [flat(&y).unwrap(), dx[0].clone()].map(|values| [values, vec![1.]].concat())
            };
            for (name, (found, wanted)) in ["y", "dx"].iter().zip(run(DType::F32).iter().zip(&run(DType::F64))) {
                assert_close_values(name, found, wanted, 1e-6);
            }
        }
    }

    #[test]
    fn linear_and_its_gradients(
        (n, i, o) in (1usize..40, 1usize..150, 1usize..150), bias: bool, layout in 0u8..4, seed: u64,
    ) {
        let mut numbers = Numbers::new(seed);
        let x = Var::from_tensor(&strided(&mut numbers, &[n, i], layout).unwrap()).unwrap();
        let weight = Var::from_tensor(&strided(&mut numbers, &[o, i], layout / 2).unwrap()).unwrap();
        let bias = bias.then(|| numbers.var(&[o]).unwrap());
        let dy = strided(&mut numbers, &[n, o], layout).unwrap();
        let (xs, ws, dys) = (flat(&x).unwrap(), flat(&weight).unwrap(), flat(&dy).unwrap());
        let mut ys = vec![0.; n * o];
        let (mut dx, mut dw, mut db) = (vec![0.; n * i], vec![0.; o * i], vec![0.; o]);
        let bs = bias.as_deref().map(|b| flat(b).unwrap()).unwrap_or_else(|| vec![0.; o]);
        for a in 0..n {
            for b in 0..o {
                ys[a * o + b] = bs[b] + (0..i).map(|k| xs[a * i + k] * ws[b * i + k]).sum::<f64>();
                db[b] += dys[a * o + b];
                for k in 0..i {
                    dx[a * i + k] += dys[a * o + b] * ws[b * i + k];
                    dw[b * i + k] += dys[a * o + b] * xs[a * i + k];
                }
            }
        }
        let y = ops::linear(&x, &weight, bias.as_deref()).unwrap();
        assert_close_values("y", &flat(&y).unwrap(), &ys, TOLERANCE);
        let mut vars = vec![&x, &weight];
        vars.extend(&bias);
        for (found, wanted) in gradients(&y, &dy, &vars).unwrap().iter().zip([dx, dw, db]) {
            assert_close_values("gradient", found, &wanted, TOLERANCE);
        }
    }
}

/// The derivative of Σ f(x) · dy along each variable, by central differences in f64, against the backward pass.
fn finite_differences(shapes: &[&[usize]], f: impl Fn(&[&Tensor]) -> Result<Tensor>) -> Result<()> {
    let mut numbers = Numbers::new(42);
    let draw = |numbers: &mut Numbers, shape: &[usize]| numbers.tensor(shape)?.to_dtype(DType::F64);
    let vars =
        shapes.iter().map(|shape| Var::from_tensor(&draw(&mut numbers, shape)?)).collect::<Result<Vec<Var>>>()?;
    let refs: Vec<&Tensor> = vars.iter().map(|var| var.as_tensor()).collect();
    let y = f(&refs)?;
    let dy = draw(&mut numbers, y.dims())?;
    let tracked: Vec<&Var> = vars.iter().collect();
    let found = gradients(&y, &dy, &tracked)?;
    let step = 1e-5;
    for (which, var) in vars.iter().enumerate() {
        let values = flat(var)?;
        let mut wanted = vec![];
        for i in 0..values.len() {
            let at = |delta: f64| -> Result<f64> {
                let mut moved = values.clone();
                moved[i] += delta;
                let moved = Tensor::from_vec(moved, var.shape(), &Device::Cpu)?;
                let mut arguments = refs.clone();
                arguments[which] = &moved;
                (f(&arguments)? * &dy)?.sum_all()?.to_scalar::<f64>()
            };
            wanted.push((at(step)? - at(-step)?) / (2. * step));
        }
        assert_close_values(&format!("gradient {which}"), &found[which], &wanted, 1e-7);
    }
    Ok(())
}

#[test]
fn gradients_match_finite_differences() -> Result<()> {
    let config = Conv2dConfig { padding: 1, stride: 2, dilation: 1, groups: 2 };
    finite_differences(&[&[2, 4, 5, 4], &[6, 2, 3, 2], &[6]], |a| ops::conv2d(a[0], a[1], Some(a[2]), config))?;
    let norm = |train: bool| {
        let running = RunningStatistics::new(3, DType::F64, &Device::Cpu);
        move |a: &[&Tensor]| {
            let running = running.as_ref().ok().filter(|_| !train);
            ops::batch_norm2d(a[0], running, Some(a[1]), Some(a[2]), BatchNormConfig::default(), train)
        }
    };
    finite_differences(&[&[2, 3, 2, 3], &[3], &[3]], norm(true))?;
    finite_differences(&[&[2, 3, 2, 3], &[3], &[3]], norm(false))?;
    let config = BatchNormConfig::default();
    finite_differences(&[&[2, 3, 2, 3], &[3]], |a| ops::batch_norm2d(a[0], None, Some(a[1]), None, config, true))?;
    finite_differences(&[&[2, 3, 2, 3], &[3]], |a| ops::batch_norm2d(a[0], None, None, Some(a[1]), config, true))?;
    finite_differences(&[&[2, 2, 5, 5]], |a| ops::max_pool2d(a[0], 2, 2))?;
    finite_differences(&[&[2, 2, 5, 5]], |a| ops::max_pool2d(a[0], 3, 1))?;
    finite_differences(&[&[2, 2, 5, 5]], |a| ops::avg_pool2d(a[0], 2, 2))?;
    finite_differences(&[&[2, 2, 7, 7]], |a| ops::max_pool2d(a[0], 3, 2))?;
    finite_differences(&[&[3, 4]], |a| ops::relu(a[0]))?;
    finite_differences(&[&[3, 4]], |a| ops::scale(a[0], -0.3))?;
    finite_differences(&[&[3, 4], &[3, 4]], |a| ops::add(a[0], a[1]))?;
    finite_differences(&[&[3, 4]], |a| ops::gelu(a[0]))?;
    finite_differences(&[&[3, 4]], |a| ops::gelu_tanh(a[0]))?;
    finite_differences(&[&[3, 4], &[5, 4], &[5]], |a| ops::linear(a[0], a[1], Some(a[2])))?;
    finite_differences(&[&[2, 3, 4], &[5, 4]], |a| ops::linear(a[0], a[1], None))?;
    let labels = Tensor::new(&[1u32, 0, 3], &Device::Cpu)?;
    finite_differences(&[&[3, 4]], |a| ops::cross_entropy(a[0], &labels))?;
    finite_differences(&[&[3, 4]], |a| ops::cross_entropy_with_label_smoothing(a[0], &labels, 0.2))?;
    let sum = CrossEntropyConfig { label_smoothing: 0.2, reduction: Reduction::Sum };
    finite_differences(&[&[3, 4]], |a| ops::cross_entropy_with(a[0], &labels, sum))
}

/// Sums over many channels and pictures, with sides that end on a whole tile of Winograd's or one to three pixels into one.
#[test]
fn many_channels_and_pictures_stay_accurate() -> Result<()> {
    let config = Conv2dConfig { padding: 1, ..Default::default() };
    for (n, c, o, side) in [(3, 256, 128, (7, 8)), (9, 24, 64, (15, 13)), (20, 144, 80, (3, 6))] {
        let run = |dtype: DType| -> Result<Vec<Vec<f64>>> {
            let mut numbers = Numbers::new(side.0 as u64);
            let mut var = |shape: &[usize]| Var::from_tensor(&numbers.tensor(shape)?.to_dtype(dtype)?);
            let (x, weight) = (var(&[n, c, side.0, side.1])?, var(&[o, c, 3, 3])?);
            let y = ops::conv2d(&x, &weight, None, config)?;
            let dy = Numbers::new(6).tensor(y.dims())?.to_dtype(dtype)?;
            let mut results = gradients(&y, &dy, &[&x, &weight])?;
            results.push(flat(&y)?);
            Ok(results)
        };
        for (i, (found, wanted)) in run(DType::F32)?.iter().zip(&run(DType::F64)?).enumerate() {
            assert_close_values(&format!("{c} to {o} channels of {side:?}, result {i}"), found, wanted, TOLERANCE);
        }
    }
    Ok(())
}

/// The sum is so many times the mean, in each way of computing it.
#[test]
fn losses_are_summed() -> Result<()> {
    let labels = Tensor::new(&[1u32, 0, 3, 3, 2], &Device::Cpu)?;
    for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F64, 1e-14), (DType::F16, 2e-3)] {
        let logits = Var::from_tensor(&Numbers::new(8).tensor(&[5, 4])?.to_dtype(dtype)?)?;
        let run = |reduction: Reduction| -> Result<Vec<f64>> {
            let config = CrossEntropyConfig { label_smoothing: 0.2, reduction };
            let loss = ops::cross_entropy_with(&logits, &labels, config)?;
            let gradients = loss.backward()?;
            Ok([flat(&loss)?, flat(gradients.get(&logits).expect("a gradient"))?].concat())
        };
        let wanted: Vec<f64> = run(Reduction::Mean)?.into_iter().map(|value| 5. * value).collect();
        assert_close_values(&format!("{dtype:?}"), &run(Reduction::Sum)?, &wanted, tolerance);
    }
    Ok(())
}

/// Against plain loops; ties are frequent, and types and layouts of all kinds.
#[test]
fn right_answers_are_counted() -> Result<()> {
    let (n, c) = (50, 7);
    for layout in 0..4 {
        let mut numbers = Numbers::new(layout.into());
        let logits = strided(&mut numbers, &[n, c], layout)?.affine(4.0, 0.0)?.round()?;
        let rows = logits.to_vec2::<f32>()?;
        // The first of the largest.
        let first = |row: &Vec<f32>| (0..c).find(|&i| row.iter().all(|value| *value <= row[i])).expect("no NaN");
        let labels: Vec<u8> = (0..n).map(|i| if i % 3 == 0 { i % c } else { first(&rows[i]) } as u8).collect();
        let wanted = rows.iter().zip(&labels).filter(|(row, label)| first(row) == usize::from(**label)).count();
        assert!((n / 2..n).contains(&wanted), "{wanted}");
        let labels = Tensor::new(labels, &Device::Cpu)?;
        for of_logits in [DType::F32, DType::F64, DType::F16] {
            for of_labels in [DType::U8, DType::U32, DType::I64] {
                let correct = ops::count_correct(&logits.to_dtype(of_logits)?, &labels.to_dtype(of_labels)?)?;
                assert_eq!(correct.to_scalar::<u32>()?, wanted as u32, "{of_logits:?}, {of_labels:?}");
            }
        }
    }
    // What softmax makes NaN of is never right; −∞ alone is a class with probability 0.
    let (nan, up, down) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    let rows =
        [[nan, 1.0], [0.0, nan], [nan, nan], [up, 0.0], [0.0, up], [up, up], [down, down], [down, up], [down, 0.]];
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        let logits = Tensor::new(&rows, &Device::Cpu)?.to_dtype(dtype)?;
        for (label, wanted) in [(0u32, 0), (1, 1)] {
            let labels = Tensor::full(label, rows.len(), &Device::Cpu)?;
            assert_eq!(ops::count_correct(&logits, &labels)?.to_scalar::<u32>()?, wanted, "{dtype:?}, {label}");
        }
    }
    Ok(())
}

/// A sum in f16 stops at 2048, and one in bf16 at 256.
#[test]
fn half_precision_sums_do_not_stall() -> Result<()> {
    let signs: Vec<f32> = (0..32 * 1024).map(|i| if i % 2 == 0 { 1. } else { -1. }).collect();
    let signs = Tensor::from_vec(signs, (32, 1, 32, 32), &Device::Cpu)?;
    for dtype in [DType::F16, DType::BF16] {
        let running = RunningStatistics::new(1, dtype, &Device::Cpu)?;
        let config = BatchNormConfig::default();
        let y = ops::batch_norm2d(&signs.to_dtype(dtype)?, Some(&running), None, None, config, true)?;
        assert_eq!(y.dtype(), dtype);
        assert_close_values("batch_norm2d", &flat(&y)?, &flat(&signs)?, 0.01);
        let p = Var::from_tensor(&Tensor::ones(10_000, dtype, &Device::Cpu)?)?;
        let mut gradients = p.as_tensor().to_dtype(DType::F32)?.sum_all()?.backward()?;
        let norm = clip_gradients_by_norm(&mut gradients, std::slice::from_ref(&p), 1000.)?;
        assert!((norm - 100.).abs() < 1e-3, "{norm}");
        let logits = Tensor::zeros((4096, 2), dtype, &Device::Cpu)?;
        let labels = Tensor::zeros(4096, DType::U32, &Device::Cpu)?;
        let loss = ops::cross_entropy(&logits, &labels)?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        assert!((loss - 2f64.ln()).abs() < 0.01, "{loss}");
        let ones = Tensor::ones((8, 1, 32, 32), dtype, &Device::Cpu)?;
        assert_eq!(flat(&ops::avg_pool2d(&ones, 32, 32)?)?, [1.; 8]);
    }
    // candle multiplies no bf16 on the CPU.
    let ones = |shape: &[usize]| Tensor::ones(shape, DType::F16, &Device::Cpu);
    let bias = Var::zeros(1, DType::F16, &Device::Cpu)?;
    for y in [
        ops::conv2d(&ones(&[8, 1, 32, 32])?, &ones(&[1, 1, 1, 1])?, Some(&bias), plain())?,
        ops::linear(&ones(&[8192, 1])?, &ones(&[1, 1])?, Some(&bias))?,
    ] {
        assert_eq!(flat(y.sum_all()?.backward()?.get(&bias).unwrap())?, [8192.]);
    }
    Ok(())
}

/// What no window reaches differs between rows and columns.
#[test]
fn half_precision_convolves_rectangles_with_a_stride() -> Result<()> {
    let mut numbers = Numbers::new(6);
    for ([h, w], kernel, padding, stride) in [([5, 6], 3, 0, 2), ([6, 5], 3, 1, 2), ([1, 4], 1, 1, 3)] {
        let (x, weight) = (numbers.tensor(&[2, 2, h, w])?, numbers.tensor(&[2, 1, kernel, kernel])?);
        let run = |dtype: DType| -> Result<Vec<Vec<f64>>> {
            let (x, weight) = (Var::from_tensor(&x.to_dtype(dtype)?)?, Var::from_tensor(&weight.to_dtype(dtype)?)?);
            let y = ops::conv2d(&x, &weight, None, Conv2dConfig { padding, stride, groups: 2, ..plain() })?;
            let store = y.sqr()?.sum_all()?.backward()?;
            [&y, store.get(&x).unwrap(), store.get(&weight).unwrap()].map(flat).into_iter().collect()
        };
        for (found, wanted) in run(DType::F16)?.iter().zip(&run(DType::F32)?) {
            assert_close_values(&format!("{h} × {w}"), found, wanted, 0.02);
        }
    }
    Ok(())
}

fn plain() -> Conv2dConfig {
    Conv2dConfig::default()
}

/// As in PyTorch, which also clips to a norm that is NaN.
#[test]
fn clipping_hides_no_nan() -> Result<()> {
    let vars = [f32::NAN, 100.].map(|value| Var::new(&[value], &Device::Cpu).unwrap());
    let mut gradients = (vars[0].sqr()? + vars[1].sqr()?)?.sum_all()?.backward()?;
    assert!(clip_gradients_by_norm(&mut gradients, &vars, 1.)?.is_nan());
    assert!(flat(gradients.get(&vars[1]).unwrap())?[0].is_nan());
    Ok(())
}

#[test]
fn sgd_goes_on_after_a_strided_gradient() -> Result<()> {
    let var = Var::zeros((2, 3), DType::F32, &Device::Cpu)?;
    let mut sgd = SGD::new(vec![var.clone()], SgdConfig { learning_rate: 1., momentum: 0.5, ..Default::default() })?;
    let mut gradients = var.sum_all()?.backward()?;
    let ones = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?;
    for gradient in [ones.t()?.contiguous()?.t()?, ones] {
        gradients.insert(&var, gradient);
        sgd.step(&gradients)?;
    }
    assert_eq!(flat(&var)?, [-2.5; 6]);
    Ok(())
}

/// Where no fast path serves, candle's own operations do: the same values, and gradients.
#[test]
fn half_precision_falls_back_on_candle() -> Result<()> {
    let mut numbers = Numbers::new(5);
    let (n, c, h, w) = (2, 4, 6, 6);
    let x = numbers.tensor(&[n, c, h, w])?;
    let (weight, bias) = (numbers.tensor(&[3, c, 3, 3])?, numbers.tensor(&[3])?);
    let labels = Tensor::new(&[1u32, 2], &Device::Cpu)?;
    let run = |dtype: DType| -> Result<(f64, Vec<Vec<f64>>)> {
        let vars = [&x, &weight, &bias].map(|t| t.to_dtype(dtype).and_then(|t| Var::from_tensor(&t)));
        let [x, weight, bias] = vars;
        let (x, weight, bias) = (x?, weight?, bias?);
        let y = ops::conv2d(&x, &weight, Some(&bias), Conv2dConfig { padding: 1, ..Default::default() })?;
        let y = ops::batch_norm2d(&y, None, None, None, BatchNormConfig::default(), true)?;
        let y = ops::max_pool2d(&ops::relu(&y)?, 2, 2)?;
        let y = ops::avg_pool2d(&y, 3, 1)?;
        let loss = ops::cross_entropy_with_label_smoothing(&ops::flatten(&y)?, &labels, 0.1)?;
        let store = loss.backward()?;
        let gradients = [&x, &weight].map(|var| flat(store.get(var).unwrap()));
        Ok((loss.to_dtype(DType::F64)?.to_scalar()?, gradients.into_iter().collect::<Result<_>>()?))
    };
    let (wanted, found) = (run(DType::F32)?, run(DType::F16)?);
    // f16 keeps eleven bits.
    assert!((wanted.0 - found.0).abs() < 0.05, "{} against {}", wanted.0, found.0);
    for (found, wanted) in found.1.iter().zip(&wanted.1) {
        assert_close_values("gradient", found, wanted, 0.15);
    }
    Ok(())
}
