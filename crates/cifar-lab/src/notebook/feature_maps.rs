//! A tensor's channels as small figures on one scale.

use candle_core::{DType, Tensor};
use notebook_charts::{Figure, HeatMaps};

use crate::error::{Error, Result};

/// Draws each channel of a tensor (feature maps, filters, attention maps), all on one scale around zero: blue is above,
/// orange below, white is zero, so a ReLU visibly removes the orange.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use cifar_lab::plot::FeatureMaps;
/// let maps = Tensor::randn(0f32, 1., (1, 8, 16, 16), &Device::Cpu)?;
/// let figure = FeatureMaps::new(&maps).title("conv1").columns(8).draw()?;
/// assert!(figure.text().starts_with("conv1"));
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is drawn before `draw`"]
pub struct FeatureMaps {
    tensor: Tensor,
    title: String,
    labels: Option<Vec<String>>,
    columns: usize,
}

impl FeatureMaps {
    /// The channels of a tensor `[C, H, W]` or `[1, C, H, W]`, or a single map `[H, W]`.
    pub fn new(tensor: &Tensor) -> Self {
        Self { tensor: tensor.clone(), title: String::new(), labels: None, columns: 8 }
    }

    /// Sets the title.
    pub fn title(self, title: impl Into<String>) -> Self {
        Self { title: title.into(), ..self }
    }

    /// Sets a label for each channel; without labels, each shows its number, from 0.
    pub fn labels(self, labels: &[impl AsRef<str>]) -> Self {
        Self { labels: Some(labels.iter().map(|label| label.as_ref().to_string()).collect()), ..self }
    }

    /// Sets the number of maps in a row; 8 by default.
    pub fn columns(self, columns: usize) -> Self {
        Self { columns, ..self }
    }

    /// Draws the maps, and below them the color key. Values that aren't finite are gray.
    ///
    /// # Errors
    /// [`Error::Shape`] unless the shape is `[C, H, W]`, `[1, C, H, W]` or `[H, W]`; [`Error::Plot`] if the numbers of labels
    /// and channels differ.
    pub fn draw(&self) -> Result<Figure> {
        let (height, width) = match *self.tensor.dims() {
            [height, width] | [_, height, width] | [1, _, height, width] => (height, width),
            _ => {
                let wanted = "[C, H, W], [1, C, H, W] or [H, W]: take one image of a batch with `.i(0)?`";
                return Err(Error::Shape { what: "feature maps", wanted, found: self.tensor.dims().to_vec() });
            }
        };
        let values = self.tensor.detach().to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let maps = HeatMaps::new((height, width), values).title(&self.title).columns(self.columns);
        let maps = self.labels.iter().fold(maps, |maps, labels| maps.labels(labels));
        Ok(maps.draw()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use notebook_charts::PlotError;

    #[test]
    fn each_channel_is_a_map() -> Result<()> {
        let maps = Tensor::arange(-6f32, 6., &Device::Cpu)?.reshape((3, 2, 2))?;
        for maps in [maps.clone(), maps.unsqueeze(0)?, maps.to_dtype(DType::F64)?] {
            let figure = FeatureMaps::new(&maps).title("three maps").labels(&["a", "b & c", "d"]).draw()?;
            assert!(figure.text().contains("a         −6  −4.5        −3"), "{}", figure.text());
        }
        for shape in [vec![12], vec![3, 1, 2, 2], vec![1, 1, 3, 2, 2]] {
            let error = FeatureMaps::new(&maps.reshape(shape)?).draw().unwrap_err();
            assert!(error.to_string().contains(".i(0)?"), "{error}");
        }
        let wrong = FeatureMaps::new(&maps).labels(&["a"]).draw();
        assert!(matches!(wrong, Err(Error::Plot(PlotError::Length { found: 1, expected: 3, .. }))));
        assert!(FeatureMaps::new(&Tensor::new(&[[3u8]], &Device::Cpu)?).draw().is_ok());
        let none = Tensor::zeros((0, 4, 4), DType::F32, &Device::Cpu)?;
        assert!(matches!(FeatureMaps::new(&none).draw(), Err(Error::Plot(PlotError::Empty { .. }))));
        Ok(())
    }
}
