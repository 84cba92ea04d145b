// Runs the CUDA kernels on one CPU thread: what little of CUDA they use, in ordinary C++, for tests/kernels.rs
// and for the simulated GPU.
//
// Blocks run one after another. A block's threads are fibres that run in turns, each until __syncthreads() or its end;
// so a kernel that forgets a barrier reads what is not there yet, and one whose threads part at a barrier is reported.

#include <cmath>
#include <cstring>
#include <ucontext.h>
#include <vector>

#include "arguments.h"

#define __global__
#define __device__
// Blocks run one after another, so they can share the memory that a block's threads share.
#define __shared__ static

struct Dim {
    unsigned int x, y, z;
};
static Dim gridDim, blockDim, blockIdx, threadIdx;
static void __syncthreads();

#include "../../src/cuda/kernels.cu"

static ucontext_t scheduler;
static std::vector<ucontext_t> fibres;
static std::vector<char> done;
static void (*launched)(void **);
static void **arguments;

static void __syncthreads() {
    unsigned int me = threadIdx.x;
    swapcontext(&fibres[me], &scheduler);
    threadIdx.x = me;
}

static void fibre() {
    launched(arguments);
    done[threadIdx.x] = 1;
}

struct Kernel {
    const char *name;
    void (*call)(void **);
};

// Of every kernel in kernels.cu, what the macro makes of its name.
#define ALL_KERNELS(X)                                                                                                \
    X(relu_forward) X(relu_backward) X(add_bias) X(max_pool_forward) X(max_pool_backward) X(avg_pool_forward)         \
    X(avg_pool_backward) X(batch_norm_moments) X(batch_norm_statistics) X(batch_norm_inverse) X(batch_norm_apply)     \
    X(channel_sums) X(channel_gradients) X(batch_norm_backward) X(block_forward) X(block_gradient_sums)               \
    X(block_backward) X(im2col) X(col2im) X(to_matrix) X(from_matrix) X(cross_entropy_rows) X(cross_entropy_total)     \
    X(scale_by) X(sgd_step) X(adamw_step) X(store_settings) X(count_correct) X(to_bf16) X(from_bf16)                  \
    X(gather_images) X(gelu_forward) X(gelu_backward) X(scale)

#define KERNEL(name) {#name, [](void **pointers) { call_with(name, pointers); }},
static const Kernel KERNELS[] = {ALL_KERNELS(KERNEL)};

// Runs a kernel; with `backwards` blocks and threads from last to first. Returns what went wrong, or null.
extern "C" const char *run_kernel(const char *name, unsigned int blocks, unsigned int threads, void **pointers,
                                  bool backwards) {
    const std::size_t stack = 1 << 16;
    static std::vector<char> stacks;
    launched = nullptr;
    for (const Kernel &kernel : KERNELS) {
        if (std::strcmp(kernel.name, name) == 0) launched = kernel.call;
    }
    if (!launched) return "there is no such kernel";
    arguments = pointers;
    gridDim = {blocks, 1, 1};
    blockDim = {threads, 1, 1};
    stacks.resize(stack * threads);
    fibres.resize(threads);
    for (unsigned int b = 0; b < blocks; b++) {
        blockIdx = {backwards ? blocks - 1 - b : b, 0, 0};
        done.assign(threads, 0);
        for (unsigned int t = 0; t < threads; t++) {
            getcontext(&fibres[t]);
            fibres[t].uc_stack.ss_sp = stacks.data() + stack * t;
            fibres[t].uc_stack.ss_size = stack;
            fibres[t].uc_link = &scheduler;
            makecontext(&fibres[t], fibre, 0);
        }
        for (unsigned int ended = 0; ended < threads;) {
            for (unsigned int t = 0; t < threads; t++) {
                threadIdx = {backwards ? threads - 1 - t : t, 0, 0};
                swapcontext(&scheduler, &fibres[threadIdx.x]);
            }
            ended = 0;
            for (char one : done) ended += one;
            if (ended != 0 && ended != threads) return "some of a block's threads end where others wait at a barrier";
        }
    }
    return nullptr;
}
