// Device memory and copies.
//
// Memory is full of NaN before its first use and after its last, and behind each piece lies a margin, also NaN, that is
// looked at when the piece is given back.

#include "memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "stream.h"

static const std::size_t CAPACITY = std::size_t(16) << 30;
static const std::size_t MARGIN = 256;
// All bits of all bytes: NaN in every floating-point type.
static const unsigned char NOTHING = 0xff;

static std::map<CUdeviceptr, std::size_t> pieces;
static std::size_t used = 0;
// What the pool has taken from the device, and how much of it it keeps when something waits.
static std::size_t reserved = 0;
static unsigned long long release_threshold = 0;

static void *at(CUdeviceptr begin) { return (void *)begin; }

static CUresult take(CUdeviceptr *begin, std::size_t bytes) {
    if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    if (bytes > CAPACITY - used) return CUDA_ERROR_OUT_OF_MEMORY;
    void *memory = std::malloc(bytes + MARGIN);
    if (!memory) return CUDA_ERROR_OUT_OF_MEMORY;
    std::memset(memory, NOTHING, bytes + MARGIN);
    *begin = (CUdeviceptr)memory;
    pieces[*begin] = bytes;
    used += bytes;
    reserved = std::max(reserved, used);
    return CUDA_SUCCESS;
}

void release_memory() {
    std::size_t kept = std::min<unsigned long long>(reserved, release_threshold);
    reserved = std::max(used, kept);
}

static void forget_values(CUdeviceptr begin) { std::memset(at(begin), NOTHING, pieces.at(begin)); }

void give_back(CUdeviceptr begin) {
    auto piece = pieces.find(begin);
    if (piece == pieces.end()) give_up("memory is given back that was not taken, or twice");
    const unsigned char *margin = (const unsigned char *)at(begin) + piece->second;
    for (std::size_t i = 0; i < MARGIN; i++) {
        if (margin[i] != NOTHING) give_up("something wrote behind a piece of %zu bytes", piece->second);
    }
    forget_values(begin);
    std::free(at(begin));
    used -= piece->second;
    pieces.erase(piece);
}

// Copies must lie within one piece.
static void check(CUdeviceptr begin, std::size_t bytes) {
    if (bytes == 0) return;
    auto piece = pieces.upper_bound(begin);
    bool found = piece != pieces.begin();
    if (found) --piece;
    if (!found || begin + bytes > piece->first + piece->second) give_up("a copy of %zu bytes leaves its memory", bytes);
}

extern "C" {

CUresult cuMemGetInfo(std::size_t *available, std::size_t *total) {
    Turn turn(gpu);
    *total = CAPACITY;
    *available = CAPACITY - reserved;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice) {
    *pool = (CUmemoryPool)&reserved;
    return CUDA_SUCCESS;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool, CUmemPool_attribute attribute, void *value) {
    Turn turn(gpu);
    if (attribute != CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) give_up("attribute %d of a pool can't be set", (int)attribute);
    release_threshold = *(unsigned long long *)value;
    return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool, CUmemPool_attribute attribute, void *value) {
    Turn turn(gpu);
    unsigned long long &number = *(unsigned long long *)value;
    switch (attribute) {
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: number = release_threshold; break;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT: number = reserved; break;
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT: number = used; break;
    default: give_up("attribute %d of a pool is not known", (int)attribute);
    }
    return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(std::size_t *bytes, CUdevice) {
    *bytes = CAPACITY;
    return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr *begin, std::size_t bytes) {
    Turn turn(gpu);
    return forbidden_everywhere() ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : take(begin, bytes);
}

CUresult cuMemFree(CUdeviceptr begin) {
    Turn turn(gpu);
    if (forbidden_everywhere()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    finish_all_streams();
    give_back(begin);
    return CUDA_SUCCESS;
}

// Of no bytes: a null pointer, where cuMemAlloc refuses.
CUresult cuMemAllocAsync(CUdeviceptr *begin, std::size_t bytes, CUstream stream) {
    Turn turn(gpu);
    *begin = 0;
    if (bytes == 0) return CUDA_SUCCESS;
    CUresult result = take(begin, bytes);
    if (result == CUDA_SUCCESS && is_captured(stream)) {
        CUdeviceptr taken = *begin;
        keep_for_graph(stream, taken);
        submit(stream, CU_GRAPH_NODE_TYPE_MEM_ALLOC, "memory is taken", [taken] { forget_values(taken); });
    }
    return result;
}

CUresult cuMemFreeAsync(CUdeviceptr begin, CUstream stream) {
    Turn turn(gpu);
    if (begin == 0) return CUDA_SUCCESS;
    if (!is_captured(stream)) {
        submit(stream, CU_GRAPH_NODE_TYPE_MEM_FREE, "memory is given back", [begin] { give_back(begin); });
    } else if (is_of_capture(stream, begin)) {
        submit(stream, CU_GRAPH_NODE_TYPE_MEM_FREE, "memory is given back", [begin] { forget_values(begin); });
    } else {
        forbidden(stream);
        return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

// From ordinary host memory: it is read before the call returns.
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, std::size_t bytes, CUstream stream) {
    Turn turn(gpu);
    if (forbidden(stream)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    check(to, bytes);
    auto values = std::make_shared<std::vector<char>>((const char *)from, (const char *)from + bytes);
    submit(stream, CU_GRAPH_NODE_TYPE_MEMCPY, "copy to the device", [=] { std::memcpy(at(to), values->data(), bytes); });
    return CUDA_SUCCESS;
}

// To ordinary host memory: the call returns when the values are there.
CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
    Turn turn(gpu);
    if (forbidden(stream)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    check(from, bytes);
    finish_stream(stream);
    std::memcpy(to, at(from), bytes);
    return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
    Turn turn(gpu);
    check(to, bytes);
    check(from, bytes);
    submit(stream, CU_GRAPH_NODE_TYPE_MEMCPY, "copy on the device", [=] { std::memmove(at(to), at(from), bytes); });
    return CUDA_SUCCESS;
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, std::size_t bytes, CUstream stream) {
    Turn turn(gpu);
    check(to, bytes);
    submit(stream, CU_GRAPH_NODE_TYPE_MEMSET, "fill", [=] { std::memset(at(to), value, bytes); });
    return CUDA_SUCCESS;
}

// On the null stream.

CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, std::size_t bytes) {
    Turn turn(gpu);
    if (forbidden_everywhere()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    check(to, bytes);
    finish_blocking_streams();
    std::memcpy(at(to), from, bytes);
    return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, std::size_t bytes) {
    Turn turn(gpu);
    if (forbidden_everywhere()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    check(from, bytes);
    finish_blocking_streams();
    std::memcpy(to, at(from), bytes);
    return CUDA_SUCCESS;
}

CUresult cuMemsetD8(CUdeviceptr to, unsigned char value, std::size_t bytes) {
    return cuMemsetD8Async(to, value, bytes, nullptr);
}
}
