// Windows of kh x kw pixels, sh and sw apart, without padding.

struct Windows {
    index_t h, w, kh, kw, sh, sw, oh, ow;
};

// The first maximum wins, and NaN wins over all; winners (may be null) gets its place in the plane.
extern "C" __global__ void max_pool_forward(const float *x, float *y, int *winners, index_t planes, Windows s) {
    index_t pixels = s.oh * s.ow;
    for (EACH(i, planes * pixels)) {
        index_t plane, row;
        int pixel, column;
        split(i, pixels, &plane, &pixel);
        split(pixel, s.ow, &row, &column);
        const float *from = x + plane * s.h * s.w;
        index_t corner = row * s.sh * s.w + column * s.sw;
        index_t winner = corner;
        float best = from[corner];
        for (index_t ky = 0; ky < s.kh; ky++) {
            for (index_t kx = 0; kx < s.kw; kx++) {
                index_t place = corner + ky * s.w + kx;
                float value = from[place];
                if (value > best || value != value) {
                    best = value;
                    winner = place;
                }
            }
        }
        y[i] = best;
        if (winners) winners[i] = (int)winner;
    }
}

// The windows that hold coordinate `at`: from *first up to, not including, *end.
static __device__ inline void holders(index_t at, index_t kernel, index_t stride, index_t outputs, index_t *first, index_t *end) {
    *first = at < kernel ? 0 : (at - kernel) / stride + 1;
    *end = at / stride + 1;
    if (*end > outputs) *end = outputs;
}

// What pixel i of the input collects from the windows around it: sent(window, place) is what a window sends back to the
// pixel at that place in its plane.
template <typename Sent> static __device__ inline float collected(index_t i, Windows s, Sent sent) {
    index_t plane, row, first_row, end_row, first_column, end_column;
    int place, column;
    split(i, s.h * s.w, &plane, &place);
    split(place, s.w, &row, &column);
    holders(row, s.kh, s.sh, s.oh, &first_row, &end_row);
    holders(column, s.kw, s.sw, s.ow, &first_column, &end_column);
    float sum = 0.0f;
    for (index_t y = first_row; y < end_row; y++) {
        for (index_t x = first_column; x < end_column; x++) sum += sent((plane * s.oh + y) * s.ow + x, place);
    }
    return sum;
}

extern "C" __global__ void max_pool_backward(const float *dy, const int *winners, float *dx, index_t planes, Windows s) {
    for (EACH(i, planes * s.h * s.w)) {
        dx[i] = collected(i, s, [&](index_t window, int place) { return winners[window] == place ? dy[window] : 0.0f; });
    }
}

extern "C" __global__ void avg_pool_forward(const float *x, float *y, index_t planes, Windows s) {
    index_t pixels = s.oh * s.ow;
    float share = (float)(1.0 / (double)(s.kh * s.kw));
    for (EACH(i, planes * pixels)) {
        index_t plane, row;
        int pixel, column;
        split(i, pixels, &plane, &pixel);
        split(pixel, s.ow, &row, &column);
        const float *from = x + plane * s.h * s.w + row * s.sh * s.w + column * s.sw;
        float sum = 0.0f;
        for (index_t ky = 0; ky < s.kh; ky++) {
            for (index_t kx = 0; kx < s.kw; kx++) sum += from[ky * s.w + kx];
        }
        y[i] = sum * share;
    }
}

extern "C" __global__ void avg_pool_backward(const float *dy, float *dx, index_t planes, Windows s) {
    float share = (float)(1.0 / (double)(s.kh * s.kw));
    for (EACH(i, planes * s.h * s.w)) dx[i] = collected(i, s, [&](index_t window, int) { return dy[window] * share; });
}
