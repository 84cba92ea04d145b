// Softmax, negative log likelihood and its gradient; and the number of right answers.

// Label of a row; the types are numbered 0 for u8, 1 for u32, 2 for i64.
static __device__ inline index_t label_of(const void *labels, index_t row, index_t type) {
    if (type == 0) return ((const unsigned char *)labels)[row];
    if (type == 1) return ((const unsigned int *)labels)[row];
    return ((const index_t *)labels)[row];
}

// A block for each row of logits [N, C]: its loss, and the gradient of `share` times the sum of all losses. A label that no class has makes
// both NaN: an error would have to wait for the GPU.
extern "C" __global__ void cross_entropy_rows(const float *logits, const void *labels, float *gradient, double *losses,
                                              index_t classes, index_t type, double smoothing, double share) {
    __shared__ float tops[THREADS];
    index_t row = blockIdx.x;
    const float *values = logits + row * classes;
    int t = threadIdx.x;
    float top = -INFINITY;
    for (index_t c = t; c < classes; c += blockDim.x) top = fmaxf(top, values[c]);
    tops[t] = top;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (t < half) tops[t] = fmaxf(tops[t], tops[t + half]);
        __syncthreads();
    }
    top = tops[0];
    double sum = 0.0, below = 0.0;
    for (index_t c = t; c < classes; c += blockDim.x) {
        sum += exp((double)values[c] - top);
        below += (double)top - values[c];
    }
    block_sums(&sum, &below);
    double log_sum = log(sum);
    index_t label = label_of(labels, row, type);
    bool known = label >= 0 && label < classes;
    double even = smoothing / (double)classes;
    for (index_t c = t; c < classes; c += blockDim.x) {
        double target = even + (c == label ? 1.0 - smoothing : 0.0);
        double found = exp((double)values[c] - top - log_sum);
        gradient[row * classes + c] = known ? (float)((found - target) * share) : NAN;
    }
    if (t == 0) {
        double loss = known ? (1.0 - smoothing) * (log_sum + ((double)top - values[label])) : NAN;
        if (smoothing > 0.0) loss += even * ((double)classes * log_sum + below);
        losses[row] = loss;
    }
}

// `share` times the sum of n losses, in one block.
extern "C" __global__ void cross_entropy_total(const double *losses, float *loss, index_t n, double share) {
    double sum = 0.0, unused = 0.0;
    for (index_t i = threadIdx.x; i < n; i += blockDim.x) sum += losses[i];
    block_sums(&sum, &unused);
    if (threadIdx.x == 0) *loss = (float)(sum * share);
}

// gradient * scale, with the scale on the device.
extern "C" __global__ void scale_by(const float *gradient, const float *scale, float *scaled, index_t count) {
    for (EACH(i, count)) scaled[i] = gradient[i] * *scale;
}

// How many rows of logits [N, C] have their largest value, the first of several, at their label; in one block. A row
// that holds NaN, or whose largest value is infinite, is never right.
extern "C" __global__ void count_correct(const float *logits, const void *labels, unsigned int *correct, index_t rows,
                                         index_t classes, index_t type) {
    double count = 0.0, unused = 0.0;
    for (index_t row = threadIdx.x; row < rows; row += blockDim.x) {
        const float *values = logits + row * classes;
        float top = -INFINITY;
        index_t best = 0;
        bool numbers = true;
        for (index_t c = 0; c < classes; c++) {
            if (values[c] != values[c]) numbers = false;
            if (values[c] > top) {
                top = values[c];
                best = c;
            }
        }
        if (numbers && top > -INFINITY && top < INFINITY && best == label_of(labels, row, type)) count += 1.0;
    }
    block_sums(&count, &unused);
    if (threadIdx.x == 0) *correct = (unsigned int)count;
}
