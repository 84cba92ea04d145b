//! How tensors and parameters show themselves: shape, type, device, range and the first values.

use super::show::Show;
use crate::error::without_backtrace;
use candle_cnn::parameters::Parameters;
use candle_core::{DType, Device, IndexOp, Result, Tensor, Var};
use notebook_charts::{Table, View, numbers};

/// The most rows and columns of a tensor's values that are shown.
const CORNER: (usize, usize) = (4, 8);

/// `[32, 3, 32, 32] f32 on the CPU`.
pub(super) fn summary(tensor: &Tensor) -> String {
    let device = match tensor.device() {
        Device::Cpu => "CPU",
        _ => "GPU",
    };
    format!("{:?} {} on the {device}", tensor.dims(), tensor.dtype().as_str())
}

/// Least, mean and greatest of the finite values, their standard deviation (divided by their number), and the number of
/// values that are not finite.
#[derive(Debug, PartialEq)]
pub(super) struct Range {
    pub least: f64,
    pub mean: f64,
    pub greatest: f64,
    pub deviation: f64,
    pub not_finite: usize,
}

impl Range {
    /// NaN if no value is finite.
    pub(super) fn of(tensor: &Tensor) -> Result<Self> {
        let values = tensor.detach().flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let count = finite().count() as f64;
        let mean = finite().map(|value| value / count).sum::<f64>() / if count > 0.0 { 1.0 } else { 0.0 };
        let deviation = finite().map(|value| (value - mean) * ((value - mean) / count)).sum::<f64>().sqrt();
        Ok(Self {
            least: finite().fold(f64::NAN, f64::min),
            mean,
            greatest: finite().fold(f64::NAN, f64::max),
            deviation: if count > 0.0 { deviation } else { f64::NAN },
            not_finite: values.len() - count as usize,
        })
    }
}

/// The first rows and columns of a tensor's last two dimensions, with their indices as caption.
fn corner(tensor: &Tensor) -> Result<Table> {
    let mut place: Vec<String> = Vec::new();
    let mut inner = tensor.detach();
    while inner.rank() > 2 {
        inner = inner.i(0)?;
        place.push("0".to_string());
    }
    let dims = inner.dims().to_vec();
    let shown: Vec<usize> = match dims.as_slice() {
        [columns] => vec![(*columns).min(CORNER.1)],
        [rows, columns] => vec![(*rows).min(CORNER.0), (*columns).min(CORNER.1)],
        _ => vec![],
    };
    place.extend(
        shown.iter().zip(&dims).map(|(shown, all)| if shown < all { format!("..{shown}") } else { "..".into() }),
    );
    for (dim, &length) in shown.iter().enumerate() {
        inner = inner.narrow(dim, 0, length)?;
    }
    let columns = shown.last().copied().unwrap_or(1);
    let values = inner.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    let values = numbers::measured_alike(&values);
    let mut header: Vec<String> = (0..columns).map(|column| column.to_string()).collect();
    header.insert(0, String::new());
    let rows = values.chunks(columns.max(1)).enumerate();
    // The colon makes a row's number text, so that it is aligned to the left.
    let table = rows.fold(Table::new(header), |table, (index, row)| {
        table.row(std::iter::once(format!("{index}:")).chain(row.iter().cloned()))
    });
    let part = if inner.elem_count() < tensor.elem_count() { "first values" } else { "values" };
    Ok(table.caption(format!("{part}: [{}]", place.join(", "))))
}

fn view(tensor: &Tensor) -> Result<View> {
    let count = tensor.elem_count();
    if tensor.rank() == 0 {
        let value = tensor.detach().to_dtype(DType::F64)?.to_scalar::<f64>()?;
        return Ok(View::line(format!("Tensor {}: {}", summary(tensor), numbers::measured(value))));
    }
    let bytes = count * tensor.dtype().size_in_bytes();
    let values = if count == 1 { "value" } else { "values" };
    let line = format!(
        "Tensor {}: {} {values}, {}",
        summary(tensor),
        numbers::grouped(count as u128),
        numbers::bytes(bytes as u64)
    );
    if count == 0 {
        return Ok(View::line(line));
    }
    let range = Range::of(tensor)?;
    let mut header = vec!["least", "mean", "greatest", "standard deviation"];
    let mut row = numbers::measured_alike(&[range.least, range.mean, range.greatest, range.deviation]);
    if range.not_finite > 0 {
        header.push("not finite");
        row.push(numbers::grouped(range.not_finite as u128));
    }
    Ok(View::tables(line, &[Table::new(header).row(row), corner(tensor)?]))
}

impl Show for Tensor {
    fn view(&self) -> View {
        // Types without arithmetic, or a device that fails: the shape is still known.
        view(self).unwrap_or_else(|error| {
            View::line(format!("Tensor {}: its values can't be shown: {}", summary(self), without_backtrace(&error)))
        })
    }
}

impl Show for Var {
    fn view(&self) -> View {
        self.as_tensor().view()
    }
}

impl Show for Parameters {
    fn view(&self) -> View {
        let header = ["name", "shape", "values", "least", "mean", "greatest", "standard deviation"];
        let named = self.named();
        let buffers = named.len() - self.trainable().len();
        let table = named.iter().fold(Table::new(header), |table, (name, var)| {
            let numbers = match Range::of(var) {
                Ok(range) => [range.least, range.mean, range.greatest, range.deviation].map(numbers::measured),
                Err(_) => ["–"; 4].map(String::from),
            };
            let shape = format!("{:?}", var.dims());
            let row = [name.clone(), shape, numbers::grouped(var.elem_count() as u128)];
            table.row(row.into_iter().chain(numbers))
        });
        let caption = format!("{} tensors, {buffers} of them batch norm statistics; seed {}", named.len(), self.seed());
        table.caption(caption).footer(["to train", "", &numbers::grouped(self.count() as u128)]).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_shows_shape_range_and_a_corner() -> Result<()> {
        let tensor = Tensor::arange(0f32, 240., &Device::Cpu)?.reshape((2, 3, 5, 8))?;
        let text = tensor.view().text().to_string();
        assert!(text.starts_with("Tensor [2, 3, 5, 8] f32 on the CPU: 240 values, 960 bytes"), "{text}");
        // Mean of 0 … 239, and √((240² − 1)/12).
        assert!(text.contains("119.50") && text.contains("69.28"), "{text}");
        assert!(text.contains("first values: [0, 0, ..4, ..]"), "{text}");
        assert!(text.ends_with("3:  24  25  26  27  28  29  30  31"), "{text}");
        Ok(())
    }

    #[test]
    fn odd_tensors_show_too() -> Result<()> {
        let device = &Device::Cpu;
        for (tensor, wanted) in [
            (Tensor::new(2.5f32, device)?, "Tensor [] f32 on the CPU: 2.5"),
            (Tensor::new(&[f32::NAN, 1., 3.], device)?, "not finite"),
            (Tensor::new(&[f32::NAN], device)?, "NaN"),
            (Tensor::new(&[1u8, 255], device)?, "values: [..]"),
            (Tensor::new(&[7i64], device)?, "1 value, 8 bytes"),
            (Tensor::zeros((0, 3), DType::F32, device)?, "0 values"),
            (Tensor::zeros((3, 0), DType::F32, device)?, "0 values"),
        ] {
            assert!(tensor.view().text().contains(wanted), "{:?}: {}", tensor.dims(), tensor.view().text());
        }
        let range = Range::of(&Tensor::new(&[f32::NAN, 1., 3.], device)?)?;
        assert_eq!(range, Range { least: 1., mean: 2., greatest: 3., deviation: 1., not_finite: 1 });
        Ok(())
    }

    #[test]
    fn parameters_are_listed_with_their_total() -> Result<()> {
        let parameters = Parameters::new(0);
        let vb = parameters.var_builder(&Device::Cpu);
        candle_cnn::layers::batch_norm2d(4, 1e-5, vb.pp("bn1"))?;
        candle_cnn::layers::linear(4, 2, vb.pp("fc"))?;
        let text = parameters.view().text().to_string();
        assert!(text.starts_with("7 tensors, 3 of them"), "{text}");
        // 4 + 4 of batch norm, 4 · 2 + 2 of the linear layer.
        assert!(text.lines().last().unwrap().ends_with("18"), "{text}");
        Ok(())
    }
}
