/* Multiplies two matrices: pinned host memory, asynchronous copies in a stream of its own, cuLaunchKernelEx, events that
   time the kernel, and a factor set in a global of the module. */
#define SAMPLE_NAME "matmul"
#include "sample.h"

/* Not a multiple of the tile, so that the edges are tested. */
enum { N = 200, TILE = 16 };
static const float scale = 0.5f;

/* Small whole numbers: every sum is exact in a float, whatever the order. */
static void fill(float *matrix, uint32_t seed) {
    for (int i = 0; i < N * N; i++)
        matrix[i] = (float)(int)(next_random(&seed) % 17) - 8.0f;
}

static void compare(const float *a, const float *b, const float *c) {
    for (int row = 0; row < N; row++)
        for (int column = 0; column < N; column++) {
            float sum = 0.0f;
            for (int k = 0; k < N; k++)
                sum += a[row * N + k] * b[k * N + column];
            if (c[row * N + column] != scale * sum)
                fail("element (%d, %d) is %g, not %g", row, column, (double)c[row * N + column],
                     (double)(scale * sum));
        }
}

static void set_scale(CUmodule module) {
    CUdeviceptr address;
    size_t bytes;
    CHECK(cuModuleGetGlobal(&address, &bytes, module, "scale"));
    if (bytes != sizeof scale)
        fail("the global `scale` has %zu bytes", bytes);
    CHECK(cuMemcpyHtoD(address, &scale, sizeof scale));
}

static void check_limits(CUfunction function) {
    int shared_bytes, threads, blocks;
    CHECK(cuFuncGetAttribute(&shared_bytes, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, function));
    CHECK(cuFuncGetAttribute(&threads, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, function));
    CHECK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, TILE * TILE, 0));
    if (shared_bytes < (int)(2 * TILE * TILE * sizeof(float)) || threads < TILE * TILE || blocks < 1)
        fail("the kernel's limits are wrong: %d bytes shared, %d threads, %d blocks", shared_bytes, threads, blocks);
}

int main(void) {
    CUdevice device = first_device();
    CUcontext context;
    CHECK(cuCtxCreate(&context, CU_CTX_SCHED_AUTO, device));
    CUmodule module = load_module();
    CUfunction function;
    CHECK(cuModuleGetFunction(&function, module, "matmul"));
    check_limits(function);
    set_scale(module);

    size_t bytes = N * N * sizeof(float);
    void *a, *b, *c;
    CHECK(cuMemHostAlloc(&a, bytes, CU_MEMHOSTALLOC_PORTABLE));
    CHECK(cuMemHostAlloc(&b, bytes, CU_MEMHOSTALLOC_PORTABLE));
    CHECK(cuMemHostAlloc(&c, bytes, CU_MEMHOSTALLOC_PORTABLE));
    fill(a, 2);
    fill(b, 3);
    CUdeviceptr device_a, device_b, device_c;
    CHECK(cuMemAlloc(&device_a, bytes));
    CHECK(cuMemAlloc(&device_b, bytes));
    CHECK(cuMemAlloc(&device_c, bytes));

    CUstream stream;
    CUevent start, end;
    CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CHECK(cuEventCreate(&start, CU_EVENT_DEFAULT));
    CHECK(cuEventCreate(&end, CU_EVENT_DEFAULT));
    CHECK(cuMemcpyHtoDAsync(device_a, a, bytes, stream));
    CHECK(cuMemcpyHtoDAsync(device_b, b, bytes, stream));
    unsigned n = N;
    void *parameters[] = {&device_a, &device_b, &device_c, &n};
    CUlaunchConfig config = {
        .gridDimX = blocks_for(N, TILE), .gridDimY = blocks_for(N, TILE), .gridDimZ = 1,
        .blockDimX = TILE, .blockDimY = TILE, .blockDimZ = 1, .hStream = stream,
    };
    CHECK(cuEventRecord(start, stream));
    CHECK(cuLaunchKernelEx(&config, function, parameters, NULL));
    CHECK(cuEventRecord(end, stream));
    CHECK(cuMemcpyDtoHAsync(c, device_c, bytes, stream));
    CHECK(cuStreamSynchronize(stream));
    compare(a, b, c);

    float ms = -1.0f;
    CHECK(cuEventElapsedTime(&ms, start, end));
    if (!(ms >= 0.0f))
        fail("the kernel took %g ms by its events", (double)ms);
    CHECK(cuMemFreeHost(a));
    CHECK(cuMemFreeHost(b));
    CHECK(cuMemFreeHost(c));
    CHECK(cuEventDestroy(start));
    CHECK(cuEventDestroy(end));
    CHECK(cuStreamDestroy(stream));
    CHECK(cuModuleUnload(module));
    CHECK(cuCtxDestroy(context));
    return pass("%d x %d product equals the CPU's; kernel %.3f ms", N, N, (double)ms);
}
