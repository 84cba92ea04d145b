// ReLU, and biases. NaN, which no comparison holds for, passes through ReLU.

extern "C" __global__ void relu_forward(const float *x, float *y, index_t count) {
    for (EACH(i, count)) y[i] = x[i] <= 0.0f ? 0.0f : x[i];
}

extern "C" __global__ void relu_backward(const float *x, const float *dy, float *dx, index_t count) {
    for (EACH(i, count)) dx[i] = x[i] <= 0.0f ? 0.0f : dy[i];
}

// Adds bias[channel] to y [N, C, plane], in place.
extern "C" __global__ void add_bias(float *y, const float *bias, index_t count, index_t channels, index_t plane) {
    for (EACH(i, count)) y[i] += bias[channel_of(i, plane, channels)];
}
