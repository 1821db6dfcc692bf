// Functions of the program that run in a stream's order.
#include "check.h"
#include <atomic>

__global__ void set(volatile int *x, int value) { *x = value; }

struct Seen {
    volatile int *cell;
    std::vector<int> values;
    std::atomic<int> callbacks{0};
};

static void look(void *user)
{
    Seen *seen = (Seen *)user;
    seen->values.push_back(int(*seen->cell));
}

static void CUDART_CB called(cudaStream_t, cudaError_t status, void *user)
{
    if (status == cudaSuccess)
        ((Seen *)user)->callbacks++;
}

int main()
{
    Seen seen;
    int *cell = nullptr, *on_device = nullptr;
    CHECK(cudaHostAlloc(&cell, sizeof(int), cudaHostAllocMapped));
    CHECK(cudaHostGetDevicePointer(&on_device, cell, 0));
    seen.cell = cell;
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    for (int round = 1; round <= 20; round++) {
        set<<<1, 1, 0, stream>>>(on_device, round);
        CHECK(cudaLaunchHostFunc(stream, look, &seen));
    }
    CHECK(cudaStreamAddCallback(stream, called, &seen, 0));
    CHECK(cudaStreamSynchronize(stream));
    EXPECT(seen.values.size() == 20 && seen.callbacks == 1);
    for (int round = 1; round <= 20; round++)
        EXPECT(seen.values[round - 1] == round);
    CHECK(cudaStreamDestroy(stream));
    CHECK(cudaFreeHost(cell));
    return passed("host_functions");
}
