//! Matrix products on slices.

use crate::element::Element;

/// A matrix inside a slice: element (i, j) lies at `i * row + j * column`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row: usize,
    column: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Row after row, `stride` apart.
    pub(crate) fn new(data: &'a [T], rows: usize, columns: usize, stride: usize) -> Self {
        Self { data, rows, columns, row: stride, column: 1 }
    }

    pub(crate) fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row: self.column, column: self.row, ..self }
    }

    fn fits(&self) -> bool {
        self.rows * self.columns == 0 || (self.rows - 1) * self.row + (self.columns - 1) * self.column < self.data.len()
    }
}

/// c = a · b, or c += a · b where `accumulate`; `c` is row after row, `stride` apart. On the calling thread alone,
/// so that its sums run in one order whatever the number of threads.
pub(crate) fn matmul<T: Element>(a: Matrix<T>, b: Matrix<T>, c: &mut [T], stride: usize, accumulate: bool) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert!(b.rows == k && a.fits() && b.fits() && stride >= n, "matrix product of unfit sizes");
    assert!(m * n == 0 || (m - 1) * stride + n <= c.len(), "matrix product into too small a slice");
    // SAFETY: the assertions above keep every element that the strides reach inside its slice; `c` is borrowed
    // mutably, so it overlaps neither `a` nor `b`. Tested through every operation in `tests/`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.column as isize,
            b.row as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
