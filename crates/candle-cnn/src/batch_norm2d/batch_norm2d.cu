// Statistics and gradients of the channels of [N, C, plane]. Each channel's pictures are split into runs, a block for
// each; the runs' sums are then added in order.

// The block's run: channel, first picture, number of values. A run has fewer than 2^31 values.
struct Run {
    index_t channel, first;
    int values;
};

static __device__ inline Run run_of(index_t n, index_t plane, index_t runs) {
    index_t pictures = (n + runs - 1) / runs;
    Run run;
    run.channel = blockIdx.x / runs;
    run.first = blockIdx.x % runs * pictures;
    index_t end = run.first + pictures < n ? run.first + pictures : n;
    run.values = run.first < end ? (int)((end - run.first) * plane) : 0;
    return run;
}

// So many values are added up in float before their sum goes into a double.
#define SHORT_SUM 32

// The block's two sums over its run, written to its place in `sums`; add(picture, pixel, &a, &b) adds what a value gives.
// A thread takes every blockDim-th value and counts picture and pixel along, since a division takes longer than the rest.
template <typename Add> static __device__ inline void sum_run(Run run, index_t plane, double *sums, Add add) {
    double first = 0.0, second = 0.0;
    unsigned int size = (unsigned int)plane, pixel = threadIdx.x % size, picture = threadIdx.x / size;
    unsigned int pixels = blockDim.x % size, pictures = blockDim.x / size;
    for (index_t k = threadIdx.x; k < run.values;) {
        float a = 0.0f, b = 0.0f;
        for (int i = 0; i < SHORT_SUM && k < run.values; i++, k += blockDim.x) {
            add(run.first + picture, (index_t)pixel, &a, &b);
            picture += pictures;
            pixel += pixels;
            if (pixel >= size) {
                pixel -= size;
                picture++;
            }
        }
        first += a;
        second += b;
    }
    block_sums(&first, &second);
    if (threadIdx.x == 0) {
        sums[2 * (index_t)blockIdx.x] = first;
        sums[2 * (index_t)blockIdx.x + 1] = second;
    }
}

// A channel's two sums: those of its runs, added in order.
static __device__ inline void channel_totals(const double *sums, index_t channel, index_t runs, double *first,
                                             double *second) {
    *first = 0.0;
    *second = 0.0;
    for (index_t run = channel * runs; run < (channel + 1) * runs; run++) {
        *first += sums[2 * run];
        *second += sums[2 * run + 1];
    }
}

// Sums of x - x0 and of its square, x0 the channel's first value: the squares of small numbers keep their digits.
extern "C" __global__ void batch_norm_moments(const float *x, double *sums, index_t n, index_t channels, index_t plane,
                                              index_t runs) {
    Run run = run_of(n, plane, runs);
    float shift = x[run.channel * plane];
    sum_run(run, plane, sums, [&](index_t picture, index_t pixel, float *total, float *squares) {
        float d = x[(picture * channels + run.channel) * plane + pixel] - shift;
        *total += d;
        *squares += d * d;
    });
}

// Mean and 1 / sqrt(variance + eps) of each channel; moves the running statistics (may be null) toward mean + bias
// (may be null) and the unbiased variance, and counts the batch.
extern "C" __global__ void batch_norm_statistics(const float *x, const double *sums, float *mean, float *inverse,
                                                 float *running_mean, float *running_var, index_t *batches,
                                                 const float *bias, index_t n, index_t channels, index_t plane,
                                                 index_t runs, double eps, double momentum) {
    double count = (double)(n * plane);
    for (EACH(c, channels)) {
        double total, squares;
        channel_totals(sums, c, runs, &total, &squares);
        double offset = total / count;
        double variance = squares / count - offset * offset;
        if (variance < 0.0) variance = 0.0;
        double center = (double)x[c * plane] + offset;
        mean[c] = (float)center;
        inverse[c] = (float)(1.0 / sqrt(variance + eps));
        if (running_mean) {
            double seen = center + (bias ? (double)bias[c] : 0.0);
            running_mean[c] = (float)((1.0 - momentum) * running_mean[c] + momentum * seen);
            running_var[c] = (float)((1.0 - momentum) * running_var[c] + momentum * variance * count / (count - 1.0));
        }
        if (batches && c == 0) *batches += 1;
    }
}

extern "C" __global__ void batch_norm_inverse(const float *var, float *inverse, index_t channels, double eps) {
    for (EACH(c, channels)) inverse[c] = (float)(1.0 / sqrt((double)var[c] + eps));
}

// Centered first: scale * x + shift would lose digits where the mean is large.
extern "C" __global__ void batch_norm_apply(const float *x, const float *mean, const float *inverse, const float *gamma,
                                            const float *beta, float *y, index_t count, index_t channels,
                                            index_t plane) {
    for (EACH(i, count)) {
        int c = channel_of(i, plane, channels);
        float scale = gamma ? gamma[c] * inverse[c] : inverse[c];
        y[i] = (x[i] - mean[c]) * scale + (beta ? beta[c] : 0.0f);
    }
}

// Sums of dy and of dy * (x - mean), the latter only where there is an x.
extern "C" __global__ void channel_sums(const float *dy, const float *x, const float *mean, double *sums, index_t n,
                                        index_t channels, index_t plane, index_t runs) {
    Run run = run_of(n, plane, runs);
    float center = x ? mean[run.channel] : 0.0f;
    sum_run(run, plane, sums, [&](index_t picture, index_t pixel, float *total, float *product) {
        index_t at = (picture * channels + run.channel) * plane + pixel;
        *total += dy[at];
        if (x) *product += dy[at] * (x[at] - center);
    });
}

// The gradients of shift and (where there is an inverse) scale, from the runs' sums.
extern "C" __global__ void channel_gradients(const double *sums, const float *inverse, float *dgamma, float *dbeta,
                                             index_t channels, index_t runs) {
    for (EACH(c, channels)) {
        double total, product;
        channel_totals(sums, c, runs, &total, &product);
        dbeta[c] = (float)total;
        if (inverse) dgamma[c] = (float)(product * inverse[c]);
    }
}

// The input's gradient; with `share` = 1 / (N * plane) in training and 0 in inference.
extern "C" __global__ void batch_norm_backward(const float *dy, const float *x, const float *mean, const float *inverse,
                                               const float *gamma, const float *dgamma, const float *dbeta, float *dx,
                                               index_t count, index_t channels, index_t plane, float share) {
    for (EACH(i, count)) {
        int c = channel_of(i, plane, channels);
        float scale = gamma ? gamma[c] * inverse[c] : inverse[c];
        float slope = dgamma[c] * inverse[c] * share;
        dx[i] = (dy[i] - dbeta[c] * share - (x[i] - mean[c]) * slope) * scale;
    }
}
