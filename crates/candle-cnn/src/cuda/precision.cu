// f32 to bf16 and back: bf16 is the upper half of a float, so both are taken as the bits that they are.

// To the nearest, on ties to the even one; a NaN stays one.
extern "C" __global__ void to_bf16(const unsigned int *x, unsigned short *y, index_t count) {
    for (EACH(i, count)) {
        unsigned int bits = x[i];
        bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
        y[i] = (unsigned short)(nan ? bits >> 16 | 0x40u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
    }
}

extern "C" __global__ void from_bf16(const unsigned short *x, unsigned int *y, index_t count) {
    for (EACH(i, count)) y[i] = (unsigned int)x[i] << 16;
}
