//! Everything a notebook names, in one import: `use cifar_lab::prelude::*;`.
//!
//! ```
//! use cifar_lab::prelude::*;
//! let x = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
//! assert_eq!(x.sum_all()?.to_scalar::<f32>()?, 6.0);
//! # Ok::<(), Error>(())
//! ```

pub use candle_cnn::layers::{
    BatchNorm2d, BatchNormConfig, Conv2d, Conv2dConfig, ConvBlock, Flatten, Linear, MaxPool2d, Relu, Sequential,
    batch_norm2d, conv2d, linear,
};
pub use candle_cnn::ops::{
    CrossEntropyConfig, Reduction, cross_entropy, cross_entropy_with, cross_entropy_with_label_smoothing, flatten,
    max_pool2d, relu,
};
pub use candle_cnn::optim::{Muon, MuonConfig, MuonScaling, ParameterGroup, SGD, SgdConfig};
pub use candle_cnn::parameters::Parameters;
pub use candle_cnn::schedule::Schedule;
pub use candle_cnn::{self, backward};
pub use candle_core::backprop::GradStore;
pub use candle_core::{self, D, DType, Device, IndexOp, Result as CandleResult, Tensor, Var};
pub use candle_nn::{self, Module, ModuleT, Optimizer, VarBuilder};
pub use image;
pub use serde_json::json;
pub use std::path::{Path, PathBuf};

pub use super::display::{Figure, LiveView, Show, Table, View};
pub use super::download_link::{DownloadLink, download_link};
pub use super::evaluation::prediction_gallery;
pub use super::exercise::{Checks, check_exercise};
pub use super::model::summary;
pub use super::plot::{self, Bars, Curves, FromTensor, Gallery, HeatMaps, Histogram, Scale, Series};
pub use super::training::overlay;
pub use crate::calibration::Calibration;
pub use crate::checkpoint::{
    ModelCard, load_checkpoint, load_pth, load_safetensors, read_pth, save_checkpoint, save_onnx, save_pth,
    save_safetensors,
};
pub use crate::dataset::{ChannelStatistics, Cifar10, Dataset, ImageFolder};
pub use crate::device::{choose_device, describe};
pub use crate::error::{Error, Result};
pub use crate::evaluate::{ConfusionMatrix, Evaluation, Prediction, evaluate};
pub use crate::grad_cam::{GradCam, grad_cam};
pub use crate::loader::{Batch, DataLoader, LoaderConfig};
pub use crate::model::{
    AirbenchConfig, AirbenchNet, ForwardTrace, Net, NetConfig, TestTimeFlip, TestTimeViews, forward_trace,
};
pub use crate::predict::{ClassProbability, PicturePrediction, PicturePredictions, Predictor};
pub use crate::run_folder::{finish_folder, resumable_folder, run_folder, runs_folder, show_path};
pub use crate::run_records::{RunRecord, RunRecords, RunState};
pub use crate::training::{
    EpochRecord, History, Progress, RangeTest, RangeTestConfig, Run, Trainer, Training, range_test,
};
pub use crate::transform::{AlternatingFlip, Normalize, RandomCrop, RandomHorizontalFlip, RandomTranslation};
pub use notebook_charts::plotters;
