// Batch norm, ReLU and 2x2 max-pool in one pass, forward and backward.

// A winner's number where ReLU has set the maximum to 0: no pixel of the window has a gradient.
#define NOBODY 4

struct Picture {
    index_t channels, rows, columns, pooled_rows, pooled_columns;
};

// Position of a window's first pixel.
static __device__ inline index_t corner_of(index_t plane, index_t window, Picture p) {
    index_t row;
    int column;
    split(window, p.pooled_columns, &row, &column);
    return plane * p.rows * p.columns + 2 * row * p.columns + 2 * column;
}

// winners (may be null) gets which of a window's four pixels is the maximum.
extern "C" __global__ void block_forward(const float *y, const float *mean, const float *inverse, const float *gamma,
                                         const float *beta, float *pooled, unsigned char *winners, index_t planes,
                                         Picture p) {
    index_t windows = p.pooled_rows * p.pooled_columns;
    for (EACH(i, planes * windows)) {
        index_t plane, image;
        int window, c;
        split(i, windows, &plane, &window);
        split(plane, p.channels, &image, &c);
        float center = mean[c], scale = gamma ? gamma[c] * inverse[c] : inverse[c], shift = beta ? beta[c] : 0.0f;
        const float *upper = y + corner_of(plane, window, p), *lower = upper + p.columns;
        float values[4] = {upper[0], upper[1], lower[0], lower[1]};
        float best = (values[0] - center) * scale + shift;
        int winner = 0;
        for (int k = 1; k < 4; k++) {
            float value = (values[k] - center) * scale + shift;
            if (value > best || value != value) {
                best = value;
                winner = k;
            }
        }
        bool dead = best <= 0.0f;
        pooled[i] = dead ? 0.0f : best;
        if (winners) winners[i] = dead ? NOBODY : (unsigned char)winner;
    }
}

// Sums of the gradient that comes through the pool and of its product with y - mean.
extern "C" __global__ void block_gradient_sums(const float *dpooled, const unsigned char *winners, const float *y,
                                               const float *mean, double *sums, index_t n, index_t runs, Picture p) {
    index_t windows = p.pooled_rows * p.pooled_columns;
    Run run = run_of(n, windows, runs);
    float center = mean[run.channel];
    sum_run(run, windows, sums, [&](index_t picture, index_t window, float *total, float *product) {
        index_t plane = picture * p.channels + run.channel, at = plane * windows + window;
        int winner = winners[at];
        if (winner == NOBODY) return;
        float value = y[corner_of(plane, window, p) + (winner >> 1) * p.columns + (winner & 1)];
        *total += dpooled[at];
        *product += dpooled[at] * (value - center);
    });
}

// The gradient of y, with `share` = 1 / (N * rows * columns). A thread takes the pixels of a window, or what is left of one
// in the last row or column of an odd number, which lies in no window.
extern "C" __global__ void block_backward(const float *dpooled, const unsigned char *winners, const float *y,
                                          const float *mean, const float *inverse, const float *gamma,
                                          const float *dgamma, const float *dbeta, float *dy, index_t planes, Picture p,
                                          float share) {
    index_t across = (p.columns + 1) / 2, cells = (p.rows + 1) / 2 * across;
    for (EACH(i, planes * cells)) {
        index_t plane, row, image;
        int cell, column, c;
        split(i, cells, &plane, &cell);
        split(cell, across, &row, &column);
        split(plane, p.channels, &image, &c);
        float grad = 0.0f;
        int winner = NOBODY;
        if (row < p.pooled_rows && column < p.pooled_columns) {
            index_t window = (plane * p.pooled_rows + row) * p.pooled_columns + column;
            winner = winners[window];
            grad = dpooled[window];
        }
        float center = mean[c], scale = gamma ? gamma[c] * inverse[c] : inverse[c];
        float slope = dgamma[c] * inverse[c] * share, offset = dbeta[c] * share;
        index_t corner = (plane * p.rows + 2 * row) * p.columns + 2 * column;
        for (int k = 0; k < 4; k++) {
            if (2 * row + (k >> 1) >= p.rows || 2 * column + (k & 1) >= p.columns) continue;
            index_t at = corner + (k >> 1) * p.columns + (k & 1);
            dy[at] = ((k == winner ? grad : 0.0f) - offset - (y[at] - center) * slope) * scale;
        }
    }
}
