/* Sums the same numbers from two host threads that share a context: each has its stream, one waits for the other's event,
   and a host function runs when both are done. */
#define SAMPLE_NAME "reduction"
#include "sample.h"

#include <pthread.h>
#include <stdatomic.h>

enum { COUNT = 300000, HALVES = 2 };

struct result {
    unsigned long long sum;
    unsigned maximum;
    unsigned blocks;
};

struct half {
    CUcontext context;
    CUfunction function;
    CUdeviceptr values, out;
    const uint32_t *source;
    CUstream stream;
    CUevent done;
    int grid, block;
};

static atomic_int host_calls;

static void count_call(void *user) { atomic_fetch_add(&host_calls, *(int *)user); }

static void *reduce_half(void *user) {
    struct half *half = user;
    unsigned count = COUNT / HALVES;
    CHECK(cuCtxSetCurrent(half->context));
    CHECK(cuStreamCreate(&half->stream, CU_STREAM_NON_BLOCKING));
    CHECK(cuEventCreate(&half->done, CU_EVENT_DISABLE_TIMING));
    CHECK(cuMemAlloc(&half->values, count * sizeof *half->source));
    CHECK(cuMemcpyHtoDAsync(half->values, half->source, count * sizeof *half->source, half->stream));
    void *parameters[] = {&half->values, &count, &half->out};
    CHECK(cuLaunchKernel(half->function, (unsigned)half->grid, 1, 1, (unsigned)half->block, 1, 1, 0, half->stream,
                         parameters, NULL));
    CHECK(cuEventRecord(half->done, half->stream));
    return NULL;
}

static void run_halves(struct half halves[HALVES]) {
    pthread_t threads[HALVES];
    for (int i = 0; i < HALVES; i++)
        if (pthread_create(&threads[i], NULL, reduce_half, &halves[i]) != 0)
            fail("cannot start a thread");
    for (int i = 0; i < HALVES; i++)
        pthread_join(threads[i], NULL);
}

/* Reads the result in the first half's stream, which is made to wait for the second's. */
static struct result collect(struct half halves[HALVES]) {
    struct result result;
    int weight = 5;
    CHECK(cuStreamWaitEvent(halves[0].stream, halves[1].done, 0));
    CHECK(cuMemcpyDtoHAsync(&result, halves[0].out, sizeof result, halves[0].stream));
    CHECK(cuLaunchHostFunc(halves[0].stream, count_call, &weight));
    CHECK(cuStreamSynchronize(halves[0].stream));
    if (atomic_load(&host_calls) != weight)
        fail("the host function ran %d times, not once", atomic_load(&host_calls) / weight);
    CHECK(cuStreamQuery(halves[0].stream));
    CHECK(cuEventQuery(halves[1].done));
    return result;
}

static void compare(const struct result *got, const uint32_t *values, unsigned blocks) {
    struct result want = {.blocks = blocks};
    for (int i = 0; i < COUNT; i++) {
        want.sum += values[i];
        want.maximum = values[i] > want.maximum ? values[i] : want.maximum;
    }
    if (got->sum != want.sum || got->maximum != want.maximum || got->blocks != want.blocks)
        fail("sum %llu, maximum %u, %u blocks; not %llu, %u, %u", got->sum, got->maximum, got->blocks, want.sum,
             want.maximum, want.blocks);
}

int main(void) {
    CUdevice device = first_device();
    CUcontext context, popped;
    CHECK(cuCtxCreate(&context, CU_CTX_SCHED_AUTO, device));
    CUmodule module = load_module();
    CUfunction function;
    CHECK(cuModuleGetFunction(&function, module, "reduce"));
    int grid, block;
    CHECK(cuOccupancyMaxPotentialBlockSize(&grid, &block, function, NULL, 0, 256));
    if (grid < 1 || block < 32 || block > 256)
        fail("a block size of %d in a grid of %d was proposed", block, grid);

    uint32_t *values = malloc(COUNT * sizeof *values), seed = 4;
    for (int i = 0; i < COUNT; i++)
        values[i] = next_random(&seed);
    CUdeviceptr out;
    CHECK(cuMemAlloc(&out, sizeof(struct result)));
    CHECK(cuMemsetD8Async(out, 0, sizeof(struct result), NULL));
    CHECK(cuCtxSynchronize());

    struct half halves[HALVES] = {0};
    for (int i = 0; i < HALVES; i++) {
        halves[i].context = context;
        halves[i].function = function;
        halves[i].out = out;
        halves[i].source = values + i * (COUNT / HALVES);
        halves[i].grid = grid < 64 ? grid : 64;
        halves[i].block = block;
    }
    run_halves(halves);
    struct result result = collect(halves);
    compare(&result, values, HALVES * (unsigned)halves[0].grid);

    for (int i = 0; i < HALVES; i++) {
        CHECK(cuMemFree(halves[i].values));
        CHECK(cuEventDestroy(halves[i].done));
        CHECK(cuStreamDestroy(halves[i].stream));
    }
    CHECK(cuMemFree(out));
    CHECK(cuModuleUnload(module));
    CHECK(cuCtxPopCurrent(&popped));
    if (popped != context)
        fail("cuCtxPopCurrent gave another context than was created");
    CHECK(cuCtxDestroy(context));
    free(values);
    return pass("sum %llu and maximum %u of %d numbers equal the CPU's", result.sum, result.maximum, COUNT);
}
