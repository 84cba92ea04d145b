// This crate's kernels, as tests/kernels.rs runs them.

#include "../kernels/on_cpu.cpp"

#include "kernel.h"
#include "stream.h"

template <typename... A> static std::vector<std::size_t> sizes_of(void (*)(A...)) { return {sizeof(A)...}; }

#define OWN_KERNEL(name) {#name, sizes_of(name), run_of(#name)},

static auto run_of(const char *name) {
    return [name](unsigned int blocks, unsigned int threads, void **arguments) {
        const char *wrong = run_kernel(name, blocks, threads, arguments, false);
        if (wrong) give_up("%s: %s", name, wrong);
    };
}

const SimulatedKernel *find_own_kernel(const std::string &name) {
    static const std::vector<SimulatedKernel> kernels = {ALL_KERNELS(OWN_KERNEL)};
    for (const SimulatedKernel &kernel : kernels) {
        if (kernel.name == name) return &kernel;
    }
    return nullptr;
}
