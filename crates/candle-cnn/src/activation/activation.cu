// ReLU, GELU, scaling, and biases. NaN, which no comparison holds for, passes through ReLU.

extern "C" __global__ void relu_forward(const float *x, float *y, index_t count) {
    for (EACH(i, count)) y[i] = x[i] <= 0.0f ? 0.0f : x[i];
}

extern "C" __global__ void relu_backward(const float *x, const float *dy, float *dx, index_t count) {
    for (EACH(i, count)) dx[i] = x[i] <= 0.0f ? 0.0f : dy[i];
}

// The share of x that GELU lets through, and the share's derivative. The tangent's form is a sigmoid of 2u.
static __device__ inline float gelu_share(float x, bool by_tanh, float *rise) {
    if (!by_tanh) {
        *rise = 0.3989422804f * expf(-0.5f * x * x);
        return 0.5f * erfcf(-0.7071067812f * x);
    }
    const float slope = 0.7978845608f, cube = 0.044715f;
    float share = 1.0f / (1.0f + expf(-2.0f * slope * x * (1.0f + cube * x * x)));
    *rise = share * (1.0f - share) * 2.0f * slope * (1.0f + 3.0f * cube * x * x);
    return share;
}

extern "C" __global__ void gelu_forward(const float *x, float *y, index_t count, index_t by_tanh) {
    float rise;
    for (EACH(i, count)) y[i] = x[i] * gelu_share(x[i], by_tanh != 0, &rise);
}

extern "C" __global__ void gelu_backward(const float *x, const float *dy, float *dx, index_t count, index_t by_tanh) {
    float rise;
    for (EACH(i, count)) {
        float share = gelu_share(x[i], by_tanh != 0, &rise);
        dx[i] = dy[i] * (share + x[i] * rise);
    }
}

extern "C" __global__ void scale(const float *x, float *y, index_t count, float factor) {
    for (EACH(i, count)) y[i] = x[i] * factor;
}

// Adds bias[channel] to y [N, C, plane], in place.
extern "C" __global__ void add_bias(float *y, const float *bias, index_t count, index_t channels, index_t plane) {
    for (EACH(i, count)) y[i] += bias[channel_of(i, plane, channels)];
}
