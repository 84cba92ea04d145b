//! candle's errors as messages for a reader.

#[cfg(any(feature = "cuda", cifar_lab_cuda))]
use super::cuda::explain;
use crate::paths::show_path;

/// candle's message; for a CUDA error that the user can do something about, what to do comes first.
pub(super) fn message(error: &candle_core::Error) -> String {
    match explain(error) {
        Some(known) => format!("{known} ({})", without_backtrace(error)),
        None => without_backtrace(error),
    }
}

/// Without CUDA, candle's own message says everything.
#[cfg(not(any(feature = "cuda", cifar_lab_cuda)))]
fn explain(_error: &candle_core::Error) -> Option<super::DeviceError> {
    None
}

/// candle's message without the backtrace that RUST_BACKTRACE adds, which evcxr sets.
pub(crate) fn without_backtrace(error: &candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => without_backtrace(inner),
        candle_core::Error::Context { inner, context } => format!("{context}: {}", without_backtrace(inner)),
        candle_core::Error::WithPath { inner, path } => format!("{}: {}", show_path(path), without_backtrace(inner)),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use crate::error::Error;

    #[test]
    fn a_backtrace_does_not_reach_the_reader() {
        let error = Error::from(candle_core::Error::Msg("wrong shape".into()).bt());
        assert_eq!(format!("{error:?}"), "wrong shape");
    }
}
