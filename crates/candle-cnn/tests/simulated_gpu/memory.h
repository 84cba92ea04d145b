// Device memory.

#pragma once

#include <cuda.h>

// Gives memory back at once.
void give_back(CUdeviceptr begin);

// What the pool does when something has waited for the GPU.
void release_memory();
