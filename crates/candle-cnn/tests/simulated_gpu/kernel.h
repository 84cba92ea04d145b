// A kernel: the sizes of its arguments in bytes, and what runs a launch.

#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "../kernels/arguments.h"

struct SimulatedKernel {
    std::string name;
    std::vector<std::size_t> sizes;
    std::function<void(unsigned int blocks, unsigned int threads, void **arguments)> run;
};

// Of candle's kernels, and of this crate's own; null where there is none of this name.
const SimulatedKernel *find_candle_kernel(const std::string &name);
const SimulatedKernel *find_own_kernel(const std::string &name);

inline const SimulatedKernel *find_kernel(const std::string &name) {
    const SimulatedKernel *kernel = find_own_kernel(name);
    return kernel ? kernel : find_candle_kernel(name);
}

// A function that does the work of all blocks and threads in one call.
template <typename... A> SimulatedKernel whole_launch(const char *name, void (*function)(A...)) {
    auto run = [function](unsigned int, unsigned int, void **arguments) { call_with(function, arguments); };
    return {name, {sizeof(A)...}, run};
}
