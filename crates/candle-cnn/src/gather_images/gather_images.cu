// Batches of pictures out of a stored set of bytes.

// Where the pixel lies that the one at `at` reflects, if that is outside.
static __device__ inline index_t reflection(index_t at, index_t size) {
    index_t period = size > 1 ? 2 * (size - 1) : 2, place = (at < 0 ? -at : at) % period;
    if (place > period - place) place = period - place;
    return place < size ? place : size - 1;
}

// y [B, C, H, W] from pictures [N, C, H, W]: what table [C, 256] makes of each byte. A row of places is picture, flags (1:
// mirrored, 2: reflected), and by how much the picture is read further down and right; outside of it the byte is 0, or that
// of its reflection. A picture that is not there is NaN.
extern "C" __global__ void gather_images(const unsigned char *pictures, const index_t *places, const float *table, float *y,
                                         index_t count, index_t stored, index_t channels, index_t height,
                                         index_t width) {
    for (EACH(i, count)) {
        index_t line, plane, b;
        int column, row, channel;
        split(i, width, &line, &column);
        split(line, height, &plane, &row);
        split(plane, channels, &b, &channel);
        const index_t *place = places + 4 * b;
        index_t down = row + place[2], right = column + place[3];
        if (place[0] < 0 || place[0] >= stored) {
            y[i] = NAN;
            continue;
        }
        if (place[1] & 2) {
            down = reflection(down, height);
            right = reflection(right, width);
        }
        int byte = 0;
        if (down >= 0 && down < height && right >= 0 && right < width) {
            index_t x = place[1] & 1 ? width - 1 - right : right;
            byte = pictures[((place[0] * channels + channel) * height + down) * width + x];
        }
        y[i] = table[channel * 256 + byte];
    }
}
