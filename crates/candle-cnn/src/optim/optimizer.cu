// One step of an optimizer for many parameters at once. Their addresses and settings are the kernel's argument itself,
// so nothing is copied to the device beforehand. A CUDA graph repeats its kernels' arguments, so there the settings lie on
// the device, where store_settings renews them before each replay. src/cuda/launch.rs has the same structures.

// An argument may have 4 KiB.
#define ENTRIES 48
// Values of one parameter that one block takes.
#define CHUNK 1024
// Settings of one parameter.
#define SETTINGS 8

struct Entry {
    float *parameter;
    const float *gradient;
    float *first, *second;
    index_t length;
    // The block that begins with this parameter, and a setting of the kernel's own.
    int first_block, flag;
    float settings[SETTINGS];
};

struct Table {
    index_t entries;
    // Where the settings are instead of in the entries, one parameter's after another's; may be null.
    float *settings;
    Entry entry[ENTRIES];
};

// Values, not their address: taking an argument's address would copy the whole table for each thread.
static __device__ inline float setting(const Table &table, int e, int k) {
    return table.settings ? table.settings[e * SETTINGS + k] : table.entry[e].settings[k];
}

extern "C" __global__ void store_settings(const Table table) {
    for (EACH(i, table.entries * SETTINGS)) table.settings[i] = table.entry[i / SETTINGS].settings[i % SETTINGS];
}

// The block's parameter, and the first and the last of its values (the latter not included).
static __device__ inline int entry_of(const Table &table, index_t *begin, index_t *end) {
    int e = 0;
    while (e + 1 < table.entries && (int)blockIdx.x >= table.entry[e + 1].first_block) e++;
    *begin = (index_t)((int)blockIdx.x - table.entry[e].first_block) * CHUNK;
    *end = *begin + CHUNK < table.entry[e].length ? *begin + CHUNK : table.entry[e].length;
    return e;
}

// Settings: rate, decay, momentum, share of the old direction, share of the gradient. The flag is Nesterov's. Without
// momentum `first` is null.
extern "C" __global__ void sgd_step(const Table table) {
    index_t begin, end;
    int e = entry_of(table, &begin, &end);
    float *p = table.entry[e].parameter, *b = table.entry[e].first;
    const float *g = table.entry[e].gradient;
    float rate = setting(table, e, 0), decay = setting(table, e, 1), momentum = setting(table, e, 2);
    float old = setting(table, e, 3), fresh = setting(table, e, 4);
    bool nesterov = table.entry[e].flag != 0;
    for (index_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
        float direction = g[i] + decay * p[i];
        if (b) {
            float buffer = old * b[i] + fresh * direction;
            b[i] = buffer;
            direction = nesterov ? direction + momentum * buffer : buffer;
        }
        p[i] -= rate * direction;
    }
}

// Settings: kept share of the parameter, step size, root of the second moment's correction, eps, beta2, 1 - beta1,
// 1 - beta2.
extern "C" __global__ void adamw_step(const Table table) {
    index_t begin, end;
    int e = entry_of(table, &begin, &end);
    float *p = table.entry[e].parameter, *m = table.entry[e].first, *v = table.entry[e].second;
    const float *g = table.entry[e].gradient;
    float keep = setting(table, e, 0), size = setting(table, e, 1), root = setting(table, e, 2);
    float eps = setting(table, e, 3), beta2 = setting(table, e, 4);
    float fresh1 = setting(table, e, 5), fresh2 = setting(table, e, 6);
    for (index_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
        float first = m[i] + fresh1 * (g[i] - m[i]);
        float second = beta2 * v[i] + fresh2 * g[i] * g[i];
        m[i] = first;
        v[i] = second;
        p[i] = keep * p[i] - size * first / (sqrtf(second) / root + eps);
    }
}
