// What a convolution by matrix products needs around them. Matrices have a column for each output pixel of each
// picture, so that the whole batch is one product.

struct Geometry {
    index_t n, c, h, w, kh, kw, oh, ow, stride, dilation, padding;
};

// columns [C * KH * KW, N * OH * OW]: what each output pixel sees, zeros outside of the picture. A thread takes one channel of
// what an output pixel sees.
extern "C" __global__ void im2col(const float *x, float *columns, Geometry g) {
    index_t pixels = g.oh * g.ow, width = g.n * pixels;
    for (EACH(i, g.c * width)) {
        index_t c, image, oy;
        int at, pixel, ox;
        split(i, width, &c, &at);
        split(at, pixels, &image, &pixel);
        split(pixel, g.ow, &oy, &ox);
        const float *plane = x + (image * g.c + c) * g.h * g.w;
        float *column = columns + c * g.kh * g.kw * width + at;
        for (index_t ky = 0; ky < g.kh; ky++) {
            index_t row = oy * g.stride + ky * g.dilation - g.padding;
            for (index_t kx = 0; kx < g.kw; kx++, column += width) {
                index_t from = ox * g.stride + kx * g.dilation - g.padding;
                bool inside = row >= 0 && row < g.h && from >= 0 && from < g.w;
                *column = inside ? plane[row * g.w + from] : 0.0f;
            }
        }
    }
}

// The way back: a thread for each pixel of the input adds up what the columns hold of it.
extern "C" __global__ void col2im(const float *columns, float *dx, Geometry g) {
    index_t pixels = g.oh * g.ow, width = g.n * pixels;
    for (EACH(i, g.n * g.c * g.h * g.w)) {
        index_t plane, row, image;
        int place, column, c;
        split(i, g.h * g.w, &plane, &place);
        split(place, g.w, &row, &column);
        split(plane, g.c, &image, &c);
        float sum = 0.0f;
        for (index_t ky = 0; ky < g.kh; ky++) {
            index_t y = row + g.padding - ky * g.dilation;
            if (y < 0 || y % g.stride != 0 || y / g.stride >= g.oh) continue;
            for (index_t kx = 0; kx < g.kw; kx++) {
                index_t x = column + g.padding - kx * g.dilation;
                if (x < 0 || x % g.stride != 0 || x / g.stride >= g.ow) continue;
                index_t tap = (c * g.kh + ky) * g.kw + kx;
                sum += columns[tap * width + image * pixels + y / g.stride * g.ow + x / g.stride];
            }
        }
        dx[i] = sum;
    }
}

// matrix [C, N * plane] from pictures [N, C, plane].
extern "C" __global__ void to_matrix(const float *x, float *matrix, index_t n, index_t channels, index_t plane) {
    for (EACH(i, n * channels * plane)) {
        index_t c, image;
        int at, pixel;
        split(i, n * plane, &c, &at);
        split(at, plane, &image, &pixel);
        matrix[i] = x[(image * channels + c) * plane + pixel];
    }
}

// pictures [N, C, plane] from a matrix [C, N * plane], with bias[c] (may be null) added.
extern "C" __global__ void from_matrix(const float *matrix, const float *bias, float *y, index_t n, index_t channels,
                                       index_t plane) {
    for (EACH(i, n * channels * plane)) {
        index_t rest, image;
        int pixel, c;
        split(i, plane, &rest, &pixel);
        split(rest, channels, &image, &c);
        y[i] = matrix[(c * n + image) * plane + pixel] + (bias ? bias[c] : 0.0f);
    }
}
