// Streams, events and graphs.
//
// Work put on a stream waits there until something asks for its result, as late as CUDA allows. So what reads without
// waiting finds memory that nothing has been written to yet, each time and not only when the machine is busy.

#include "stream.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "memory.h"

std::recursive_mutex gpu;

void give_up(const char *format, ...) {
    std::va_list values;
    va_start(values, format);
    std::fputs("simulated GPU: ", stderr);
    std::vfprintf(stderr, format, values);
    std::fputs("\n", stderr);
    std::abort();
}

// What run.sh puts in the place of every other function that a program names.
extern "C" [[noreturn]] void not_simulated(const char *function) { give_up("%s is not simulated", function); }

struct CUgraphNode_st {
    CUgraphNodeType type;
    Work work;
};

// What was captured, and the memory that it took: its addresses stay the graph's own.
struct Captured {
    std::deque<CUgraphNode_st> nodes;
    std::vector<CUdeviceptr> memory;

    ~Captured() {
        for (CUdeviceptr begin : memory) give_back(begin);
    }
};

struct CUgraph_st {
    std::shared_ptr<Captured> captured;
};

struct CUgraphExec_st {
    std::shared_ptr<Captured> captured;
};

struct CUstream_st {
    // Streams wait for the null stream, and it for them.
    bool blocking = true;
    std::deque<Work> waiting;
    std::size_t done = 0;
    // A capture in progress, and whether a call has spoilt it.
    std::shared_ptr<Captured> capture;
    bool spoilt = false;
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
    std::thread::id thread;

    void run_until(std::size_t count) {
        while (done < count && !waiting.empty()) {
            Work work = std::move(waiting.front());
            waiting.pop_front();
            done++;
            work();
        }
    }

    void run_all() { run_until(done + waiting.size()); }
};

struct CUevent_st {
    CUstream stream = nullptr;
    std::size_t count = 0;
};

// A GPU gets on with its work; here it does so when this much is waiting.
static const std::size_t MOST_WAITING = 4096;

// Never removed: work may be left on the stream of a thread that has ended.
static std::vector<CUstream> &streams() {
    static std::vector<CUstream> all;
    return all;
}

static CUstream create_stream() {
    streams().push_back(new CUstream_st);
    return streams().back();
}

static CUstream find_stream(CUstream handle) {
    static CUstream null_stream = create_stream();
    static thread_local CUstream own_stream = nullptr;
    if (handle == nullptr || handle == CU_STREAM_LEGACY) return null_stream;
    if (handle != CU_STREAM_PER_THREAD) return handle;
    if (!own_stream) own_stream = create_stream();
    return own_stream;
}

// Nothing orders streams but events. The newest comes first: whose work needs another's should have waited for it.
static void finish(bool blocking_only) {
    for (std::size_t i = streams().size(); i-- > 0;) {
        CUstream stream = streams()[i];
        if (stream->blocking || !blocking_only) stream->run_all();
    }
    release_memory();
}

void finish_blocking_streams() { finish(true); }

void finish_all_streams() { finish(false); }

void finish_stream(CUstream stream) {
    find_stream(stream)->run_all();
    release_memory();
}

bool is_captured(CUstream stream) { return find_stream(stream)->capture != nullptr; }

bool forbidden(CUstream handle) {
    CUstream stream = find_stream(handle);
    if (stream->capture) stream->spoilt = true;
    return stream->capture != nullptr;
}

bool forbidden_everywhere() {
    bool found = false;
    for (CUstream stream : streams()) {
        bool concerned = stream->mode == CU_STREAM_CAPTURE_MODE_GLOBAL || stream->thread == std::this_thread::get_id();
        if (!stream->capture || !concerned) continue;
        stream->spoilt = found = true;
    }
    return found;
}

bool any_capture() {
    bool found = false;
    for (CUstream stream : streams()) {
        if (stream->capture) stream->spoilt = found = true;
    }
    return found;
}

// A line for each piece of work, where somebody wants them.
static void log(const char *name, bool captured) {
    static const char *path = std::getenv("SIMULATED_GPU_LOG");
    static std::FILE *file = path && *path ? std::fopen(path, "a") : nullptr;
    if (!file) return;
    std::fprintf(file, "%s%s\n", captured ? "captured: " : "", name);
    std::fflush(file);
}

void submit(CUstream handle, CUgraphNodeType type, const char *name, Work work) {
    CUstream stream = find_stream(handle);
    log(name, stream->capture != nullptr);
    if (stream->capture) {
        stream->capture->nodes.push_back({type, std::move(work)});
        return;
    }
    if (stream == find_stream(nullptr)) {
        // The others' work waits for it, so it is done before any of that is put anywhere.
        finish_blocking_streams();
        work();
        return;
    }
    stream->waiting.push_back(std::move(work));
    if (stream->waiting.size() > MOST_WAITING) stream->run_until(stream->done + 1);
}

void keep_for_graph(CUstream stream, CUdeviceptr begin) { find_stream(stream)->capture->memory.push_back(begin); }

bool is_of_capture(CUstream stream, CUdeviceptr begin) {
    for (CUdeviceptr one : find_stream(stream)->capture->memory) {
        if (one == begin) return true;
    }
    return false;
}

extern "C" {

CUresult cuStreamCreate(CUstream *stream, unsigned int flags) {
    Turn turn(gpu);
    *stream = create_stream();
    (*stream)->blocking = !(flags & CU_STREAM_NON_BLOCKING);
    return CUDA_SUCCESS;
}

CUresult cuStreamDestroy(CUstream) { return CUDA_SUCCESS; }

CUresult cuStreamSynchronize(CUstream stream) {
    Turn turn(gpu);
    if (forbidden(stream)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    finish_stream(stream);
    return CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int) {
    Turn turn(gpu);
    if (forbidden(stream)) return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    CUevent_st seen = *event;
    if (!seen.stream) return CUDA_SUCCESS;
    submit(stream, CU_GRAPH_NODE_TYPE_WAIT_EVENT, "wait for an event", [seen] { seen.stream->run_until(seen.count); });
    return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent *event, unsigned int) {
    *event = new CUevent_st;
    return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent event) {
    delete event;
    return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream handle) {
    Turn turn(gpu);
    CUstream stream = find_stream(handle);
    if (forbidden(stream)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    *event = {stream, stream->done + stream->waiting.size()};
    return CUDA_SUCCESS;
}

CUresult cuEventSynchronize(CUevent event) {
    Turn turn(gpu);
    if (event->stream) event->stream->run_until(event->count);
    return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
    Turn turn(gpu);
    *status = is_captured(stream) ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
    Turn turn(gpu);
    CUstream stream = find_stream(handle);
    if (stream->capture || stream == find_stream(nullptr)) return CUDA_ERROR_ILLEGAL_STATE;
    stream->capture = std::make_shared<Captured>();
    stream->spoilt = false;
    stream->mode = mode;
    stream->thread = std::this_thread::get_id();
    return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph *graph) {
    Turn turn(gpu);
    CUstream stream = find_stream(handle);
    *graph = nullptr;
    if (!stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
    std::shared_ptr<Captured> captured = std::move(stream->capture);
    stream->capture = nullptr;
    if (stream->spoilt) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    *graph = new CUgraph_st{captured};
    return CUDA_SUCCESS;
}

CUresult cuGraphInstantiate(CUgraphExec *executable, CUgraph graph, unsigned long long) {
    *executable = new CUgraphExec_st{graph->captured};
    return CUDA_SUCCESS;
}

CUresult cuGraphUpload(CUgraphExec, CUstream) { return CUDA_SUCCESS; }

CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream) {
    Turn turn(gpu);
    if (forbidden(stream)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    std::shared_ptr<Captured> captured = executable->captured;
    submit(stream, CU_GRAPH_NODE_TYPE_GRAPH, "graph", [captured] {
        for (CUgraphNode_st &node : captured->nodes) node.work();
    });
    return CUDA_SUCCESS;
}

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, std::size_t *count) {
    std::deque<CUgraphNode_st> &all = graph->captured->nodes;
    for (std::size_t i = 0; nodes && i < *count && i < all.size(); i++) nodes[i] = &all[i];
    *count = all.size();
    return CUDA_SUCCESS;
}

CUresult cuGraphNodeGetType(CUgraphNode node, CUgraphNodeType *type) {
    *type = node->type;
    return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec executable) {
    Turn turn(gpu);
    delete executable;
    return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph) {
    Turn turn(gpu);
    delete graph;
    return CUDA_SUCCESS;
}
}
