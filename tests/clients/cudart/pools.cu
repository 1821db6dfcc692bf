// Memory that is allocated and freed in a stream's order, and its pools.
#include "check.h"

__global__ void fill(int *x, int value, int n)
{
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        x[i] = value;
}

int main()
{
    int supported = 0;
    CHECK(cudaDeviceGetAttribute(&supported, cudaDevAttrMemoryPoolsSupported, 0));
    EXPECT(supported == 1);
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    const int n = 50000;
    for (int round = 0; round < 5; round++) {
        int *x = nullptr, last = 0;
        CHECK(cudaMallocAsync(&x, n * sizeof(int), stream));
        fill<<<1, 256, 0, stream>>>(x, round + 1, n);
        CHECK(cudaMemcpyAsync(&last, x + n - 1, sizeof last, cudaMemcpyDeviceToHost, stream));
        CHECK(cudaFreeAsync(x, stream));
        CHECK(cudaStreamSynchronize(stream));
        EXPECT(last == round + 1);
    }
    cudaMemPool_t pool;
    CHECK(cudaDeviceGetDefaultMemPool(&pool, 0));
    unsigned long long threshold = 1 << 20, read = 0;
    CHECK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold));
    CHECK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &read));
    EXPECT(read == threshold);
    cudaMemPoolProps properties = {};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    cudaMemPool_t own;
    CHECK(cudaMemPoolCreate(&own, &properties));
    int *x = nullptr;
    CHECK(cudaMallocFromPoolAsync(&x, 4096, own, stream));
    fill<<<1, 32, 0, stream>>>(x, 9, 1024);
    CHECK(cudaMemPoolGetAttribute(own, cudaMemPoolAttrUsedMemCurrent, &read));
    EXPECT(read >= 4096);
    int values[2];
    CHECK(cudaMemcpyAsync(values, x, sizeof values, cudaMemcpyDeviceToHost, stream));
    CHECK(cudaStreamSynchronize(stream));
    EXPECT(values[1] == 9);
    CHECK(cudaFreeAsync(x, stream));
    CHECK(cudaStreamSynchronize(stream));
    CHECK(cudaMemPoolTrimTo(own, 0));
    CHECK(cudaMemPoolDestroy(own));
    CHECK(cudaStreamDestroy(stream));
    return passed("pools");
}
