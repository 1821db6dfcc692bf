// After cudaDeviceReset everything starts anew, with the same program.
#include "check.h"

__device__ int counter = 1;

__global__ void count(int *out) { *out = ++counter; }

int main()
{
    for (int round = 0; round < 3; round++) {
        int *out = nullptr, value = 0;
        CHECK(cudaMalloc(&out, sizeof(int)));
        cudaStream_t stream;
        CHECK(cudaStreamCreate(&stream));
        count<<<1, 1, 0, stream>>>(out);
        count<<<1, 1, 0, stream>>>(out);
        CHECK(cudaMemcpyAsync(&value, out, sizeof value, cudaMemcpyDeviceToHost, stream));
        CHECK(cudaStreamSynchronize(stream));
        EXPECT(value == 3);
        CHECK(cudaDeviceReset());
    }
    return passed("reset");
}
