// cuDNN: convolutions in two dimensions.

#include <cudnn.h>

#include <vector>

#include "number.h"
#include "stream.h"

// Bytes that the one usable algorithm asks for; no other number is taken.
static const std::size_t WORKSPACE = 1000;

struct cudnnContext {
    CUstream stream = nullptr;
};

// A tensor `[N, C, H, W]` or a filter `[K, C, R, S]`, its values one after another.
struct Sizes {
    int of[4] = {};
    Type type = Type::F32;

    std::size_t count() const { return (std::size_t)of[0] * of[1] * of[2] * of[3]; }
    std::size_t place(int n, int c, int h, int w) const {
        return (((std::size_t)n * of[1] + c) * of[2] + h) * of[3] + w;
    }
};

struct cudnnTensorStruct : Sizes {};
struct cudnnFilterStruct : Sizes {};

struct cudnnConvolutionStruct {
    int padding[2], stride[2], dilation[2];
    cudnnMathType_t math = CUDNN_DEFAULT_MATH;
};

static Type type_of(cudnnDataType_t type) {
    switch (type) {
    case CUDNN_DATA_FLOAT: return Type::F32;
    case CUDNN_DATA_DOUBLE: return Type::F64;
    case CUDNN_DATA_BFLOAT16: return Type::BF16;
    default: give_up("cuDNN's type %d is not simulated", (int)type);
    }
}

static cudnnStatus_t set_sizes(Sizes &sizes, cudnnTensorFormat_t format, cudnnDataType_t type, int n, int c, int h,
                               int w) {
    if (format != CUDNN_TENSOR_NCHW) give_up("cuDNN's format %d is not simulated", (int)format);
    sizes = {{n, c, h, w}, type_of(type)};
    return CUDNN_STATUS_SUCCESS;
}

// What cuDNN suggests, best first: an algorithm that sums in no order of its own, one on tensor cores, one that is
// neither. Whoever asks for plain, repeatable f32 must take the last.
template <typename Suggestion> static cudnnStatus_t suggest(int room, int *count, Suggestion *suggestions) {
    struct {
        cudnnDeterminism_t determinism;
        cudnnMathType_t math;
    } all[] = {
        {CUDNN_NON_DETERMINISTIC, CUDNN_FMA_MATH},
        {CUDNN_DETERMINISTIC, CUDNN_TENSOR_OP_MATH},
        {CUDNN_DETERMINISTIC, CUDNN_FMA_MATH},
    };
    for (*count = 0; *count < room && *count < 3; ++*count) {
        Suggestion &one = suggestions[*count];
        one = {};
        one.algo = decltype(one.algo)(*count);
        one.status = CUDNN_STATUS_SUCCESS;
        one.memory = WORKSPACE;
        one.determinism = all[*count].determinism;
        one.mathType = all[*count].math;
    }
    return CUDNN_STATUS_SUCCESS;
}

// The rows (dimension 0) or columns (1) of x and y that a filter's row or column brings together.
struct Along {
    int padding, stride, dilation;

    Along(const cudnnConvolutionStruct &convolution, int dimension)
        : padding(convolution.padding[dimension]), stride(convolution.stride[dimension]),
          dilation(convolution.dilation[dimension]) {}
    int in_x(int of_y, int of_w) const { return of_y * stride + of_w * dilation - padding; }
};

// Calls `f` with the places of each product's factors x and w and of the sum y that it goes into.
template <typename F>
static void each_product(const Sizes &x, const Sizes &w, const Sizes &y, const cudnnConvolutionStruct &convolution,
                         F f) {
    Along down(convolution, 0), right(convolution, 1);
    auto window = [&](int n, int k, int c, int i, int j) {
        for (int r = 0; r < w.of[2]; r++) {
            for (int s = 0; s < w.of[3]; s++) {
                int row = down.in_x(i, r), column = right.in_x(j, s);
                if (row < 0 || column < 0 || row >= x.of[2] || column >= x.of[3]) continue;
                f(x.place(n, c, row, column), w.place(k, c, r, s), y.place(n, k, i, j));
            }
        }
    };
    for (int n = 0; n < y.of[0]; n++) {
        for (int k = 0; k < y.of[1]; k++) {
            for (int i = 0; i < y.of[2]; i++) {
                for (int j = 0; j < y.of[3]; j++) {
                    for (int c = 0; c < x.of[1]; c++) window(n, k, c, i, j);
                }
            }
        }
    }
}

enum class Result { Y, Dx, Dw };

struct Operand {
    Sizes sizes;
    void *values;
};

// One of the three passes: from two of x, w and y the third, or its gradient.
static cudnnStatus_t pass(cudnnHandle_t handle, Result result, Operand x, Operand w, Operand y,
                          const cudnnConvolutionStruct *convolution, const void *alpha, const void *beta,
                          const void *workspace, std::size_t workspace_bytes) {
    Turn turn(gpu);
    if (workspace_bytes != WORKSPACE || !workspace) give_up("a convolution without the workspace that it asked for");
    if (*(const float *)alpha != 1 || *(const float *)beta != 0) give_up("cuDNN's alpha and beta are not simulated");
    cudnnConvolutionStruct copy = *convolution;
    submit(handle->stream, CU_GRAPH_NODE_TYPE_KERNEL, "cuDNN's convolution", [=] {
        auto factor = [&](const Operand &operand, std::size_t i) {
            double value = load(operand.values, i, operand.sizes.type);
            return copy.math != CUDNN_FMA_MATH && operand.sizes.type == Type::F32 ? as_tf32(value) : value;
        };
        const Operand &into = result == Result::Y ? y : result == Result::Dx ? x : w;
        std::vector<double> sums(into.sizes.count());
        each_product(x.sizes, w.sizes, y.sizes, copy, [&](std::size_t x_i, std::size_t w_i, std::size_t y_i) {
            switch (result) {
            case Result::Y: sums[y_i] += factor(x, x_i) * factor(w, w_i); break;
            case Result::Dx: sums[x_i] += factor(y, y_i) * factor(w, w_i); break;
            case Result::Dw: sums[w_i] += factor(y, y_i) * factor(x, x_i); break;
            }
        });
        for (std::size_t i = 0; i < sums.size(); i++) store(into.values, i, into.sizes.type, sums[i]);
    });
    return CUDNN_STATUS_SUCCESS;
}

static Operand operand(const Sizes *sizes, const void *values) { return {*sizes, (void *)values}; }

template <typename T> static cudnnStatus_t create(T **made) {
    *made = new T;
    return CUDNN_STATUS_SUCCESS;
}

template <typename T> static cudnnStatus_t destroy(T *made) {
    delete made;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t tell_workspace(std::size_t *bytes) {
    *bytes = WORKSPACE;
    return CUDNN_STATUS_SUCCESS;
}

using Tensor = const cudnnTensorDescriptor_t;
using Filter = const cudnnFilterDescriptor_t;
using Convolution = const cudnnConvolutionDescriptor_t;

extern "C" {

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle) {
    Turn turn(gpu);
    any_capture();
    return create(handle);
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
    Turn turn(gpu);
    any_capture();
    return destroy(handle);
}
cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t *made) { return create(made); }
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t made) { return destroy(made); }
cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t *made) { return create(made); }
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t made) { return destroy(made); }
cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t *made) { return create(made); }
cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t made) { return destroy(made); }

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t tensor, cudnnTensorFormat_t format,
                                         cudnnDataType_t type, int n, int c, int h, int w) {
    return set_sizes(*tensor, format, type, n, c, h, w);
}

cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t filter, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int k, int c, int h, int w) {
    return set_sizes(*filter, format, type, k, c, h, w);
}

cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t convolution, int padding_h, int padding_w,
                                              int stride_h, int stride_w, int dilation_h, int dilation_w,
                                              cudnnConvolutionMode_t mode, cudnnDataType_t) {
    if (mode != CUDNN_CROSS_CORRELATION) return CUDNN_STATUS_NOT_SUPPORTED;
    *convolution = {{padding_h, padding_w}, {stride_h, stride_w}, {dilation_h, dilation_w}, CUDNN_DEFAULT_MATH};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t convolution, cudnnMathType_t math) {
    convolution->math = math;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t, Tensor, Filter, Convolution, Tensor, const int room,
                                                     int *count, cudnnConvolutionFwdAlgoPerf_t *suggestions) {
    return suggest(room, count, suggestions);
}

cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnnHandle_t, Filter, Tensor, Convolution, Tensor,
                                                          const int room, int *count,
                                                          cudnnConvolutionBwdDataAlgoPerf_t *suggestions) {
    return suggest(room, count, suggestions);
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t, Tensor, Tensor, Convolution, Filter,
                                                            const int room, int *count,
                                                            cudnnConvolutionBwdFilterAlgoPerf_t *suggestions) {
    return suggest(room, count, suggestions);
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t, Tensor, Filter, Convolution, Tensor,
                                                      cudnnConvolutionFwdAlgo_t, std::size_t *bytes) {
    return tell_workspace(bytes);
}

cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t, Filter, Tensor, Convolution, Tensor,
                                                           cudnnConvolutionBwdDataAlgo_t, std::size_t *bytes) {
    return tell_workspace(bytes);
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t, Tensor, Tensor, Convolution, Filter,
                                                             cudnnConvolutionBwdFilterAlgo_t, std::size_t *bytes) {
    return tell_workspace(bytes);
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void *alpha, Tensor x_sizes, const void *x,
                                      Filter w_sizes, const void *w, Convolution convolution,
                                      cudnnConvolutionFwdAlgo_t, void *workspace, std::size_t bytes, const void *beta,
                                      Tensor y_sizes, void *y) {
    return pass(handle, Result::Y, operand(x_sizes, x), operand(w_sizes, w), operand(y_sizes, y), convolution, alpha,
                beta, workspace, bytes);
}

cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void *alpha, Filter w_sizes, const void *w,
                                           Tensor dy_sizes, const void *dy, Convolution convolution,
                                           cudnnConvolutionBwdDataAlgo_t, void *workspace, std::size_t bytes,
                                           const void *beta, Tensor dx_sizes, void *dx) {
    return pass(handle, Result::Dx, operand(dx_sizes, dx), operand(w_sizes, w), operand(dy_sizes, dy), convolution,
                alpha, beta, workspace, bytes);
}

cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void *alpha, Tensor x_sizes, const void *x,
                                             Tensor dy_sizes, const void *dy, Convolution convolution,
                                             cudnnConvolutionBwdFilterAlgo_t, void *workspace, std::size_t bytes,
                                             const void *beta, Filter dw_sizes, void *dw) {
    return pass(handle, Result::Dw, operand(x_sizes, x), operand(dw_sizes, dw), operand(dy_sizes, dy), convolution,
                alpha, beta, workspace, bytes);
}
}
