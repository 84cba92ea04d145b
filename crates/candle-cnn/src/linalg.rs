//! Eigenvalues, for initial values and for looking at matrices.

use candle_core::{DType, Device, Result, Tensor};

use crate::check;

const NAME: &str = "eigh";

/// Rounds of rotations at most; a matrix of a few hundred rows takes ten.
const ROUNDS: usize = 60;

/// Eigenvalues `[N]`, in ascending order, and eigenvectors, the columns of `[N, N]`, of a symmetric `matrix` `[N, N]` of
/// which the upper triangle alone is read. In `f64` on the CPU, by Jacobi's rotations, which take N³ operations ten times
/// over: for small matrices. As `torch.linalg.eigh`; of each vector and its negative, the one whose largest component is
/// positive.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let (values, vectors) = candle_cnn::linalg::eigh(&Tensor::new(&[[2f32, 1.], [1., 2.]], &Device::Cpu)?)?;
/// assert!((values - Tensor::new(&[1f64, 3.], &Device::Cpu)?)?.abs()?.max_all()?.to_scalar::<f64>()? < 1e-12);
/// assert!((vectors.get(0)?.get(1)?.to_scalar::<f64>()? - 0.5f64.sqrt()).abs() < 1e-12);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If `matrix` is not square and of a floating-point type, or a value is NaN or infinite.
pub fn eigh(matrix: &Tensor) -> Result<(Tensor, Tensor)> {
    check::float(NAME, "the matrix", matrix)?;
    let n = match *matrix.dims() {
        [rows, columns] if rows == columns && rows > 0 => rows,
        _ => return Err(check::shape(NAME, "the matrix", matrix, "[N, N], N at least 1")),
    };
    let mut a = matrix.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    for row in 0..n {
        for column in 0..row {
            a[row * n + column] = a[column * n + row];
        }
    }
    let wrong = a.iter().find(|value| !value.is_finite());
    check::setting(NAME, "a value of the matrix", wrong.unwrap_or(&0.0), wrong.is_none(), "finite")?;
    // Row i of `vectors` is what has become of unit vector i.
    let mut vectors = vec![0.0; n * n];
    (0..n).for_each(|i| vectors[i * n + i] = 1.0);
    let whole: f64 = a.iter().map(|value| value * value).sum();
    for _ in 0..ROUNDS {
        let rest: f64 = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j))).map(|(i, j)| a[i * n + j].powi(2)).sum();
        // What is left no longer changes the eigenvalues' last digit.
        if rest <= whole * f64::EPSILON * f64::EPSILON {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut vectors, n, p, q);
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[i * n + i].total_cmp(&a[j * n + j]));
    let values: Vec<f64> = order.iter().map(|&i| a[i * n + i]).collect();
    let rows: Vec<f64> = order.iter().flat_map(|&i| upright(&vectors[i * n..(i + 1) * n])).collect();
    let vectors = Tensor::from_vec(rows, (n, n), &Device::Cpu)?.t()?.contiguous()?;
    Ok((Tensor::from_vec(values, n, &Device::Cpu)?, vectors))
}

/// Makes the values at (p, q) and (q, p) zero by a rotation of the two rows and columns (Golub and Van Loan, "Matrix
/// Computations", section 8.5).
fn rotate(a: &mut [f64], vectors: &mut [f64], n: usize, p: usize, q: usize) {
    let across = a[p * n + q];
    if across == 0.0 {
        return;
    }
    let tau = (a[q * n + q] - a[p * n + p]) / (2.0 * across);
    let tangent = tau.signum() / (tau.abs() + (1.0 + tau * tau).sqrt());
    let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
    let sine = tangent * cosine;
    let turn = |values: &mut [f64], first: usize, second: usize| {
        let (x, y) = (values[first], values[second]);
        (values[first], values[second]) = (cosine * x - sine * y, sine * x + cosine * y);
    };
    for k in 0..n {
        turn(a, k * n + p, k * n + q);
    }
    for k in 0..n {
        turn(a, p * n + k, q * n + k);
        turn(vectors, p * n + k, q * n + k);
    }
}

/// The vector, or its negative, whose largest component is positive.
fn upright(vector: &[f64]) -> Vec<f64> {
    let largest = vector.iter().copied().fold(0.0, |largest: f64, v| if v.abs() > largest.abs() { v } else { largest });
    vector.iter().map(|v| v * largest.signum()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A = V Λ Vᵀ with orthonormal V, also where eigenvalues are equal or 0.
    #[test]
    fn it_takes_a_matrix_apart() -> Result<()> {
        let numbers = |n: usize, seed: usize| {
            let values: Vec<f64> = (0..n * n).map(|i| ((i * i + seed) as f64).sin()).collect();
            Tensor::from_vec(values, (n, n), &Device::Cpu)
        };
        for n in [1usize, 2, 3, 12, 40] {
            for rank in [n, n.div_ceil(2), 0] {
                let factor =
                    numbers(n, n)?.narrow(1, 0, rank.max(1))?.affine(if rank == 0 { 0.0 } else { 1.0 }, 0.0)?;
                let a = (factor.matmul(&factor.t()?)? + Tensor::eye(n, DType::F64, &Device::Cpu)?)?;
                let (values, vectors) = eigh(&a)?;
                let close = |found: &Tensor, wanted: &Tensor| -> Result<bool> {
                    let far = (found - wanted)?.abs()?.max_all()?.to_scalar::<f64>()?;
                    Ok(far <= 1e-12 * (1.0 + wanted.abs()?.max_all()?.to_scalar::<f64>()?))
                };
                assert!(close(&vectors.broadcast_mul(&values)?.matmul(&vectors.t()?)?, &a)?, "{n}, rank {rank}");
                assert!(close(&vectors.t()?.matmul(&vectors)?, &Tensor::eye(n, DType::F64, &Device::Cpu)?)?);
                assert!(values.to_vec1::<f64>()?.is_sorted());
            }
        }
        Ok(())
    }
}
