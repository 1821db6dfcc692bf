/* Squares a vector by all devices that there are: a part on each, in the primary contexts, at the same time; the first
   device gathers the parts. Where there is one device, it has the only part. */
#define SAMPLE_NAME "parts"
#include "sample.h"

enum { COUNT = 1 << 20, THREADS = 256, DEVICES_MAX = 8 };

/* A device and its part. */
struct part {
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUstream stream;
    CUdeviceptr values;
    unsigned first, count;
};

static void begin(struct part *part, const float *values) {
    CHECK(cuDevicePrimaryCtxRetain(&part->context, part->device));
    CHECK(cuCtxSetCurrent(part->context));
    part->module = load_module();
    CUfunction function;
    CHECK(cuModuleGetFunction(&function, part->module, "parts"));
    CHECK(cuStreamCreate(&part->stream, CU_STREAM_NON_BLOCKING));
    size_t bytes = part->count * sizeof(float);
    CHECK(cuMemAlloc(&part->values, bytes));
    CHECK(cuMemcpyHtoDAsync(part->values, values + part->first, bytes, part->stream));
    void *parameters[] = {&part->values, &part->count};
    unsigned blocks = blocks_for(part->count, THREADS * 4);
    CHECK(cuLaunchKernel(function, blocks, 1, 1, THREADS, 1, 1, 0, part->stream, parameters, NULL));
}

/* The part's place in what the first device gathers. */
static void gather(const struct part *part, CUdeviceptr whole, const struct part *first) {
    CHECK(cuCtxSetCurrent(part->context));
    CUdeviceptr place = whole + part->first * sizeof(float);
    size_t bytes = part->count * sizeof(float);
    CHECK(cuMemcpyPeerAsync(place, first->context, part->values, part->context, bytes, part->stream));
}

int main(void) {
    struct part parts[DEVICES_MAX];
    first_device();
    int devices;
    CHECK(cuDeviceGetCount(&devices));
    if (devices > DEVICES_MAX)
        devices = DEVICES_MAX;
    float *values = malloc(COUNT * sizeof(float)), *squares = calloc(COUNT, sizeof(float));
    uint32_t seed = 7;
    for (int i = 0; i < COUNT; i++)
        values[i] = (float)next_random(&seed) / 65536.0f;

    for (int i = 0; i < devices; i++) {
        unsigned from = (unsigned)((long)COUNT * i / devices), to = (unsigned)((long)COUNT * (i + 1) / devices);
        parts[i].first = from;
        parts[i].count = to - from;
        CHECK(cuDeviceGet(&parts[i].device, i));
        begin(&parts[i], values);
    }
    CUdeviceptr whole;
    CHECK(cuCtxSetCurrent(parts[0].context));
    CHECK(cuMemAlloc(&whole, COUNT * sizeof(float)));
    for (int i = 0; i < devices; i++)
        gather(&parts[i], whole, &parts[0]);
    for (int i = 0; i < devices; i++)
        CHECK(cuStreamSynchronize(parts[i].stream));
    CHECK(cuCtxSetCurrent(parts[0].context));
    CHECK(cuMemcpyDtoH(squares, whole, COUNT * sizeof(float)));
    for (int i = 0; i < COUNT; i++)
        if (squares[i] != values[i] * values[i])
            fail("element %d is %g, not %g", i, (double)squares[i], (double)(values[i] * values[i]));

    CHECK(cuMemFree(whole));
    for (int i = 0; i < devices; i++) {
        CHECK(cuCtxSetCurrent(parts[i].context));
        CHECK(cuMemFree(parts[i].values));
        CHECK(cuStreamDestroy(parts[i].stream));
        CHECK(cuModuleUnload(parts[i].module));
        CHECK(cuDevicePrimaryCtxRelease(parts[i].device));
    }
    free(values);
    free(squares);
    return pass("%d squares of %d device(s) equal the CPU's", COUNT, devices);
}
