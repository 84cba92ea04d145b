// Streams: what work is put on, and what waits for it.

#pragma once

#include <cuda.h>
#include <cstddef>
#include <functional>
#include <mutex>

using Work = std::function<void()>;

// What every call of the driver and of the libraries holds: the kernels share memory that one block at a time can have.
extern std::recursive_mutex gpu;
using Turn = std::lock_guard<std::recursive_mutex>;

// Puts work on a stream. It is done when something waits for it, or becomes a node of the graph that is captured.
void submit(CUstream stream, CUgraphNodeType type, const char *name, Work work);

// Does the work of one stream, of all that the null stream waits for, of all.
void finish_stream(CUstream stream);
void finish_blocking_streams();
void finish_all_streams();

// Whether the stream captures a graph.
bool is_captured(CUstream stream);

// Whether a capture on this stream, or one that concerns this thread, does not allow what is called; spoils it if so.
bool forbidden(CUstream stream);
bool forbidden_everywhere();

// Whether any thread captures, which does not allow to wait for the whole context; spoils all captures if so. Libraries
// wait so where their handles are made and destroyed.
bool any_capture();

// Memory that a graph takes and gives back, each time that it runs.
void keep_for_graph(CUstream stream, CUdeviceptr begin);
bool is_of_capture(CUstream stream, CUdeviceptr begin);

// Says what is wrong with the program under test, or with this simulation, and ends the process.
[[noreturn]] void give_up(const char *format, ...);
