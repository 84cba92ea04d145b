// cuBLAS: matrix products.

#include <cublas_v2.h>

#include "number.h"
#include "stream.h"

struct cublasContext {
    CUstream stream = nullptr;
};

static Type type_of(cudaDataType_t type) {
    switch (type) {
    case CUDA_R_32F: return Type::F32;
    case CUDA_R_64F: return Type::F64;
    case CUDA_R_16BF: return Type::BF16;
    default: give_up("cuBLAS's type %d is not simulated", (int)type);
    }
}

// A matrix, column by column.
struct Matrix {
    const void *values;
    Type type;
    bool transposed;
    std::size_t column;

    double at(std::size_t begin, std::size_t i, std::size_t j) const {
        return load(values, begin + (transposed ? j + i * column : i + j * column), type);
    }
};

static bool is_transposed(cublasOperation_t operation) {
    if (operation == CUBLAS_OP_C) give_up("cuBLAS's conjugates are not simulated");
    return operation == CUBLAS_OP_T;
}

extern "C" {

cublasStatus_t cublasCreate(cublasHandle_t *handle) {
    Turn turn(gpu);
    any_capture();
    *handle = new cublasContext;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle) {
    Turn turn(gpu);
    any_capture();
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t a_operation,
                                          cublasOperation_t b_operation, int m, int n, int k, const void *alpha,
                                          const void *a_values, cudaDataType_t a_type, int a_column,
                                          long long a_stride, const void *b_values, cudaDataType_t b_type,
                                          int b_column, long long b_stride, const void *beta, void *c_values,
                                          cudaDataType_t c_type, int c_column, long long c_stride, int count,
                                          cublasComputeType_t compute, cublasGemmAlgo_t) {
    Turn turn(gpu);
    Matrix a = {a_values, type_of(a_type), is_transposed(a_operation), (std::size_t)a_column};
    Matrix b = {b_values, type_of(b_type), is_transposed(b_operation), (std::size_t)b_column};
    Type type = type_of(c_type), scalars = compute == CUBLAS_COMPUTE_64F ? Type::F64 : Type::F32;
    double by = load(alpha, 0, scalars), keep = load(beta, 0, scalars);
    bool tf32 = compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    submit(handle->stream, CU_GRAPH_NODE_TYPE_KERNEL, "cuBLAS's matrix product", [=] {
        for (int one = 0; one < count; one++) {
            for (int j = 0; j < n; j++) {
                for (int i = 0; i < m; i++) {
                    double sum = 0;
                    for (int l = 0; l < k; l++) {
                        double x = a.at(one * a_stride, i, l), y = b.at(one * b_stride, l, j);
                        sum += tf32 ? as_tf32(x) * as_tf32(y) : x * y;
                    }
                    std::size_t place = one * c_stride + i + (std::size_t)j * c_column;
                    // With 0 what is there is not read: it may be NaN.
                    double before = keep == 0 ? 0 : keep * load(c_values, place, type);
                    store(c_values, place, type, by * sum + before);
                }
            }
        }
    });
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t a_operation, cublasOperation_t b_operation, int m,
                            int n, int k, const void *alpha, const void *a, cudaDataType_t a_type, int a_column,
                            const void *b, cudaDataType_t b_type, int b_column, const void *beta, void *c,
                            cudaDataType_t c_type, int c_column, cublasComputeType_t compute,
                            cublasGemmAlgo_t algorithm) {
    return cublasGemmStridedBatchedEx(handle, a_operation, b_operation, m, n, k, alpha, a, a_type, a_column, 0, b,
                                      b_type, b_column, 0, beta, c, c_type, c_column, 0, 1, compute, algorithm);
}
}
