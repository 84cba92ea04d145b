// All kernels, compiled by nvcc to PTX for the GPU and by any C++ compiler for the test on the CPU (tests/kernels.rs).
//
// No atomics: each value is written by one thread, and each sum runs in an order that the shapes alone decide on.
// Positions are 64 bits wide; what is 32 bits wide (places in one plane) is checked where the launch is put together.

typedef long long index_t;

// Threads of each block; sums over a block need a power of two.
#define THREADS 256

// Every i from 0 to count - 1, spread over the whole grid.
#define EACH(i, count)                                                                                                 \
    index_t i = (index_t)blockIdx.x * blockDim.x + threadIdx.x;                                                        \
    i < (count);                                                                                                       \
    i += (index_t)gridDim.x * blockDim.x

// i = quotient * by + remainder; a division of 32 bits, where that is enough, takes a fraction of the time.
static __device__ inline void split(index_t i, index_t by, index_t *quotient, int *remainder) {
    if (i <= 0x7fffffffLL && by <= 0x7fffffffLL) {
        unsigned int a = (unsigned int)i, b = (unsigned int)by;
        *quotient = a / b;
        *remainder = (int)(a % b);
    } else {
        *quotient = i / by;
        *remainder = (int)(i % by);
    }
}

// Which of C channels the element i of [N, C, plane] belongs to.
static __device__ inline int channel_of(index_t i, index_t plane, index_t channels) {
    index_t quotient, image;
    int pixel, channel;
    split(i, plane, &quotient, &pixel);
    split(quotient, channels, &image, &channel);
    return channel;
}

// Two sums over the block's threads, each thread with its own part; all threads get them.
static __device__ inline void block_sums(double *first, double *second) {
    __shared__ double a[THREADS], b[THREADS];
    int t = threadIdx.x;
    __syncthreads(); // The sums of a call before may still be read.
    a[t] = *first;
    b[t] = *second;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (t < half) {
            a[t] += a[t + half];
            b[t] += b[t + half];
        }
        __syncthreads();
    }
    *first = a[0];
    *second = b[0];
}

#include "../activation/activation.cu"
#include "../batch_norm2d/batch_norm2d.cu"
#include "../block/block.cu"
#include "../conv2d/conv2d.cu"
#include "../cross_entropy/cross_entropy.cu"
#include "../gather_images/gather_images.cu"
#include "../optim/optimizer.cu"
#include "../pool2d/pool2d.cu"
#include "precision.cu"
