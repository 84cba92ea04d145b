//! The sizes of a pooling, and which pixels each window takes. The CUDA kernels repeat this arithmetic.

use candle_core::{Result, Tensor};

use crate::check;
use crate::trace::{LayerCall, Operation};

/// Sizes of one pooling, checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
    pub dims: [usize; 4],
    pub kernel: (usize, usize),
    pub stride: (usize, usize),
    pub oh: usize,
    pub ow: usize,
}

impl Windows {
    pub(super) fn new(
        operation: &'static str,
        x: &Tensor,
        kernel: (usize, usize),
        stride: (usize, usize),
    ) -> Result<Self> {
        let dims = check::dims4(operation, "the input", x)?;
        check::positive(operation, "kernel", kernel.0.min(kernel.1))?;
        check::positive(operation, "stride", stride.0.min(stride.1))?;
        let [_, _, h, w] = dims;
        if h < kernel.0 || w < kernel.1 {
            let wanted = format!("an image at least as large as the window of {} × {}", kernel.0, kernel.1);
            return Err(check::shape(operation, "the input", x, wanted));
        }
        Ok(Self { dims, kernel, stride, oh: (h - kernel.0) / stride.0 + 1, ow: (w - kernel.1) / stride.1 + 1 })
    }

    pub(super) fn shape(&self) -> [usize; 4] {
        [self.dims[0], self.dims[1], self.oh, self.ow]
    }

    pub(super) fn plane(&self) -> usize {
        self.dims[2] * self.dims[3]
    }

    pub(super) fn pixels(&self) -> usize {
        self.oh * self.ow
    }

    /// Place of a window's first pixel in its plane.
    fn corner(&self, pixel: usize) -> usize {
        pixel / self.ow * self.stride.0 * self.dims[3] + pixel % self.ow * self.stride.1
    }

    /// Places of the pixels in the window of output pixel `pixel`, in row-major order: KH · KW of them for every window,
    /// as [`Self::gather`] relies on.
    pub(super) fn places(self, pixel: usize) -> impl Iterator<Item = usize> {
        let corner = self.corner(pixel);
        (0..self.kernel.0).flat_map(move |y| (0..self.kernel.1).map(move |x| corner + y * self.dims[3] + x))
    }

    pub(super) fn layer_call(&self, kind: &'static str, operation: Operation, x: &Tensor, y: &Tensor) -> LayerCall {
        let settings = format!("{}×{}, stride {}", self.kernel.0, self.kernel.1, self.stride.0);
        LayerCall::of(kind, settings, operation, x, y)
    }

    /// All windows as `[N, C, OH, OW, KH · KW]`, by candle's own operations.
    pub(super) fn gather(&self, x: &Tensor) -> Result<Tensor> {
        let [n, c, _, _] = self.dims;
        let places: Vec<u32> = (0..self.pixels()).flat_map(|p| self.places(p)).map(|place| place as u32).collect();
        let count = places.len();
        let places = Tensor::from_vec(places, count, x.device())?;
        x.contiguous()?.flatten_from(2)?.index_select(&places, 2)?.reshape((n, c, self.oh, self.ow, ()))
    }
}
