// Device memory.

#pragma once

#include <cuda.h>

// Gives memory back at once.
void give_back(CUdeviceptr begin);
