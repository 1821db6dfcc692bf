// What the runtime tells of kernels: attributes, occupancy, shared memory beyond the default, blocks of threads that work
// together.
#include "check.h"

__global__ void sum(const int *x, int *out, int n)
{
    extern __shared__ int partial[];
    int value = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        value += x[i];
    partial[threadIdx.x] = value;
    __syncthreads();
    for (int half = blockDim.x / 2; half >= 32; half /= 2) {
        if (threadIdx.x < half)
            partial[threadIdx.x] += partial[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x < 32) {
        value = partial[threadIdx.x];
        for (int lane = 16; lane; lane /= 2)
            value += __shfl_down_sync(~0u, value, lane);
        if (threadIdx.x == 0)
            *out = value;
    }
}

__global__ void reverse(int *x, int n)
{
    extern __shared__ int shared_ints[];
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        shared_ints[i] = x[i];
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        x[i] = shared_ints[n - 1 - i];
}

__global__ __launch_bounds__(64) void bounded(int *x)
{
    x[0] = __popc(__ballot_sync(~0u, threadIdx.x % 2));
}

typedef int (*Operation)(int, int);
__device__ int plus(int a, int b) { return a + b; }
__device__ int times(int a, int b) { return a * b; }
__device__ Operation operations[] = {plus, times};

__global__ void indirect(int *out)
{
    out[threadIdx.x] = operations[threadIdx.x % 2](threadIdx.x, 3);
}

int main()
{
    const int n = 5000;
    std::vector<int> x(n);
    int expected = 0;
    for (int i = 0; i < n; i++)
        expected += x[i] = i % 17;
    Device<int> in(x), out(64);
    sum<<<1, 256, 256 * sizeof(int)>>>(in.at, out.at, n);
    CHECK(cudaGetLastError());
    EXPECT(out.read()[0] == expected);

    cudaFuncAttributes attributes;
    CHECK(cudaFuncGetAttributes(&attributes, bounded));
    EXPECT(attributes.maxThreadsPerBlock == 64);
    bounded<<<1, 128>>>(out.at);
    EXPECT(cudaGetLastError() != cudaSuccess);
    bounded<<<1, 32>>>(out.at);
    EXPECT(out.read()[0] == 16);
    int blocks = 0, grid = 0, block = 0;
    CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, sum, 256, 1024));
    EXPECT(blocks >= 1);
    CHECK(cudaOccupancyMaxPotentialBlockSize(&grid, &block, bounded));
    EXPECT(grid >= 1 && block >= 32 && block <= 64);

    const int large = 20000;
    std::vector<int> y(large);
    for (int i = 0; i < large; i++)
        y[i] = i;
    Device<int> dy(y);
    reverse<<<1, 256, large * sizeof(int)>>>(dy.at, large);
    EXPECT(cudaGetLastError() == cudaErrorInvalidValue);
    CHECK(cudaFuncSetAttribute(reverse, cudaFuncAttributeMaxDynamicSharedMemorySize, large * sizeof(int)));
    CHECK(cudaFuncGetAttributes(&attributes, reverse));
    EXPECT(attributes.maxDynamicSharedSizeBytes == large * sizeof(int));
    reverse<<<1, 256, large * sizeof(int)>>>(dy.at, large);
    CHECK(cudaGetLastError());
    y = dy.read();
    EXPECT(y[0] == large - 1 && y[large - 1] == 0 && y[123] == large - 124);
    CHECK(cudaFuncSetCacheConfig(reverse, cudaFuncCachePreferShared));

    indirect<<<1, 64>>>(out.at);
    std::vector<int> results = out.read();
    for (int i = 0; i < 64; i++)
        EXPECT(results[i] == (i % 2 ? i * 3 : i + 3));
    return passed("functions");
}
