// Built so that every thread has a default stream of its own.
// nvcc: --default-stream per-thread
#include "check.h"
#include <thread>

__global__ void add(int *x, int value, int n)
{
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        x[i] += value;
}

static void work(int number)
{
    const int n = 2048;
    Device<int> x(std::vector<int>(n, 0));
    int *host = nullptr;
    CHECK(cudaMallocHost(&host, n * sizeof(int)));
    for (int round = 0; round < 100; round++)
        add<<<1, 64>>>(x.at, number, n);
    CHECK(cudaMemcpyAsync(host, x.at, n * sizeof(int), cudaMemcpyDeviceToHost));
    CHECK(cudaStreamSynchronize(cudaStreamPerThread));
    for (int i = 0; i < n; i++)
        EXPECT(host[i] == 100 * number);
    CHECK(cudaFreeHost(host));
}

int main()
{
    std::vector<std::thread> threads;
    for (int number = 1; number <= 6; number++)
        threads.emplace_back(work, number);
    for (std::thread &thread : threads)
        thread.join();
    // The legacy stream can still be named.
    Device<int> x(std::vector<int>(8, 1));
    add<<<1, 8, 0, cudaStreamLegacy>>>(x.at, 4, 8);
    CHECK(cudaStreamSynchronize(cudaStreamLegacy));
    EXPECT(x.read()[7] == 5);
    return passed("per_thread");
}
