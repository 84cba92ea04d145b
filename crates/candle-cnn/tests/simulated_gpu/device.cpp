// The device itself, its context, and kernels by their names. `README.md` tells which variables change what it says.

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "kernel.h"
#include "stream.h"

static const int SUPPORTED_CUDA = CUDA_VERSION;
// What an H100 says.
static const int CAPABILITY = 90;

struct CUctx_st {};
static CUctx_st only_context;
static thread_local CUcontext current = nullptr;
static bool started = false;

static int setting(const char *name, int otherwise) {
    const char *value = std::getenv(name);
    return value && *value ? std::atoi(value) : otherwise;
}

extern "C" {

CUresult cuInit(unsigned int) {
    const char *visible = std::getenv("CUDA_VISIBLE_DEVICES");
    if (visible && !*visible) return CUDA_ERROR_NO_DEVICE;
    CUresult result = (CUresult)setting("SIMULATED_GPU_START", CUDA_SUCCESS);
    started = result == CUDA_SUCCESS;
    return result;
}

CUresult cuGetErrorName(CUresult, const char **name) {
    *name = "an error of the simulated GPU";
    return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult result, const char **text) { return cuGetErrorName(result, text); }

CUresult cuDriverGetVersion(int *version) {
    *version = setting("SIMULATED_GPU_DRIVER", SUPPORTED_CUDA);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count) {
    *count = 1;
    return started ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    *device = ordinal;
    if (!started) return CUDA_ERROR_NOT_INITIALIZED;
    return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetName(char *name, int length, CUdevice) {
    std::strncpy(name, "simulated GPU", length);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice) {
    int capability = setting("SIMULATED_GPU_CAPABILITY", CAPABILITY);
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = capability / 10; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = capability % 10; break;
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED: *value = 1; break;
    default: give_up("attribute %d of the device is not known", (int)attribute);
    }
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice) {
    *context = &only_context;
    return started ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice) { return CUDA_SUCCESS; }

CUresult cuCtxGetCurrent(CUcontext *context) {
    *context = current;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context) {
    current = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize() {
    Turn turn(gpu);
    if (!current) return CUDA_ERROR_INVALID_CONTEXT;
    // Whatever the captures' modes: the context has their streams.
    if (any_capture()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    finish_all_streams();
    return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule *module, const void *) {
    // The same module for all: kernels are told apart by their names.
    *module = (CUmodule)&only_context;
    return (CUresult)setting("SIMULATED_GPU_LOAD", CUDA_SUCCESS);
}

CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }

CUresult cuModuleGetFunction(CUfunction *function, CUmodule, const char *name) {
    const SimulatedKernel *kernel = find_kernel(name);
    if (!kernel) give_up("the kernel %s is not simulated (candle_kernels.cpp)", name);
    *function = (CUfunction)kernel;
    return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction function, unsigned int blocks, unsigned int y, unsigned int z, unsigned int threads,
                        unsigned int thread_y, unsigned int thread_z, unsigned int, CUstream stream, void **arguments,
                        void **) {
    Turn turn(gpu);
    const SimulatedKernel &kernel = *(const SimulatedKernel *)function;
    if (!current) return CUDA_ERROR_INVALID_CONTEXT;
    if (blocks * y * z == 0 || threads * thread_y * thread_z > 1024) return CUDA_ERROR_INVALID_VALUE;
    // The driver has read the arguments when the call returns.
    auto copies = std::make_shared<std::vector<std::vector<char>>>();
    for (std::size_t i = 0; i < kernel.sizes.size(); i++) {
        const char *value = (const char *)arguments[i];
        copies->emplace_back(value, value + kernel.sizes[i]);
    }
    submit(stream, CU_GRAPH_NODE_TYPE_KERNEL, kernel.name.c_str(), [=, &kernel] {
        std::vector<void *> pointers;
        for (std::vector<char> &copy : *copies) pointers.push_back(copy.data());
        kernel.run(blocks, threads, pointers.data());
    });
    return CUDA_SUCCESS;
}
}
