// Eight threads share one context, each with a stream of its own.
#include "check.h"
#include <atomic>
#include <thread>

__global__ void fill(unsigned *x, unsigned seed, int n)
{
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        x[i] = (i + seed) * 2654435761u;
}

static std::atomic<int> good;

static void work(unsigned seed)
{
    const int n = 30000;
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    for (int round = 0; round < 10; round++) {
        Device<unsigned> x(n);
        std::vector<unsigned> back(n);
        fill<<<8, 128, 0, stream>>>(x.at, seed + round, n);
        CHECK(cudaMemcpyAsync(back.data(), x.at, n * sizeof(unsigned), cudaMemcpyDeviceToHost, stream));
        CHECK(cudaStreamSynchronize(stream));
        for (int i = 0; i < n; i++)
            EXPECT(back[i] == (i + seed + round) * 2654435761u);
        good++;
    }
    CHECK(cudaStreamDestroy(stream));
}

int main()
{
    std::vector<std::thread> threads;
    for (unsigned number = 0; number < 8; number++)
        threads.emplace_back(work, number * 1000);
    for (std::thread &thread : threads)
        thread.join();
    EXPECT(good == 80);
    return passed("threads");
}
