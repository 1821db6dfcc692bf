/* `steady SECONDS MIB` keeps the device busy until SIGTERM or for so long, holding so much memory: kernels of about a
   millisecond, two batches of them ahead, so that a slow guest keeps up. Where the numbers must be after so many steps is
   computed here without taking them. */
#define SAMPLE_NAME "steady"
#include "sample.h"

#include <math.h>
#include <signal.h>
#include <time.h>

enum { COUNT = 32, BATCH = 16, AHEAD = 2, TRIES = 3 };
static const unsigned FIRST_STEPS = 1 << 14, MOST_STEPS = 1u << 26;
static const float KERNEL_MS = 1.5f;
static const double LIMIT_S = 120;

static volatile sig_atomic_t over;

static void end(int signal) {
    (void)signal;
    over = 1;
}

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* The sequence so many steps after `number`: a step is x -> a x + c, and so are any number of them in one. */
static uint32_t after(uint32_t number, uint64_t steps) {
    uint32_t a = 1664525u, c = 1013904223u;
    for (; steps != 0; steps >>= 1) {
        if (steps & 1)
            number = a * number + c;
        c = a * c + c;
        a = a * a;
    }
    return number;
}

static void launch(CUfunction function, CUdeviceptr numbers, unsigned steps, CUstream stream) {
    void *parameters[] = {&numbers, &steps};
    CHECK(cuLaunchKernel(function, 1, 1, 1, COUNT, 1, 1, 0, stream, parameters, NULL));
}

/* How long a kernel takes when others have the device too: the shortest of some, each behind another one, so that it does not
   begin with a wait. `taken` grows by the steps that it took to find out. */
static float kernel_ms(CUfunction function, CUdeviceptr numbers, unsigned steps, CUstream stream, uint64_t *taken) {
    CUevent begin, done;
    CHECK(cuEventCreate(&begin, CU_EVENT_DEFAULT));
    CHECK(cuEventCreate(&done, CU_EVENT_DEFAULT));
    float shortest = INFINITY;
    for (int i = 0; i < TRIES; i++) {
        float ms;
        launch(function, numbers, steps, stream);
        CHECK(cuEventRecord(begin, stream));
        launch(function, numbers, steps, stream);
        CHECK(cuEventRecord(done, stream));
        CHECK(cuEventSynchronize(done));
        CHECK(cuEventElapsedTime(&ms, begin, done));
        *taken += 2 * (uint64_t)steps;
        shortest = ms < shortest ? ms : shortest;
    }
    CHECK(cuEventDestroy(begin));
    CHECK(cuEventDestroy(done));
    return shortest;
}

int main(int count, char **arguments) {
    double limit_s = count > 1 ? atof(arguments[1]) : LIMIT_S;
    size_t held_bytes = count > 2 ? (size_t)atol(arguments[2]) << 20 : 1;
    signal(SIGTERM, end);
    CUdevice device = first_device();
    CUcontext context;
    CHECK(cuCtxCreate(&context, CU_CTX_SCHED_AUTO, device));
    CUfunction function;
    CHECK(cuModuleGetFunction(&function, load_module(), "walk"));
    uint32_t first[COUNT], last[COUNT], seed = 5;
    for (int i = 0; i < COUNT; i++)
        first[i] = next_random(&seed);
    CUdeviceptr numbers, held;
    CHECK(cuMemAlloc(&numbers, sizeof first));
    CHECK(cuMemAlloc(&held, held_bytes));
    CHECK(cuMemcpyHtoD(numbers, first, sizeof first));
    CUstream stream;
    CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CUevent done[AHEAD];
    for (int i = 0; i < AHEAD; i++)
        CHECK(cuEventCreate(&done[i], CU_EVENT_DISABLE_TIMING));

    uint64_t taken = 0, kernels = 0;
    unsigned steps = FIRST_STEPS;
    while (steps < MOST_STEPS && kernel_ms(function, numbers, steps, stream, &taken) < KERNEL_MS / 2)
        steps *= 2;
    double begun_s = now_s();
    for (unsigned batch = 0; !over && now_s() - begun_s < limit_s; batch++) {
        CHECK(cuEventSynchronize(done[batch % AHEAD]));
        for (int i = 0; i < BATCH; i++)
            launch(function, numbers, steps, stream);
        CHECK(cuEventRecord(done[batch % AHEAD], stream));
        kernels += BATCH;
    }
    taken += kernels * steps;
    CHECK(cuStreamSynchronize(stream));
    double took_s = now_s() - begun_s;
    CHECK(cuMemcpyDtoH(last, numbers, sizeof last));
    for (int i = 0; i < COUNT; i++)
        if (last[i] != after(first[i], taken))
            fail("number %d is %u after %llu steps, not %u", i, last[i], (unsigned long long)taken, after(first[i], taken));
    CHECK(cuCtxDestroy(context));
    return pass("%llu kernels in %.1f s, every number where it must be", (unsigned long long)kernels, took_s);
}
