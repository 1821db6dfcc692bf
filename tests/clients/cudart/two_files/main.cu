// A device function and a variable of another file, linked on the device.
// nvcc: -rdc=true
#include "check.h"

extern __device__ int offset;
__device__ int shifted(int x);

__global__ void shift(int *x) { x[threadIdx.x] = shifted(x[threadIdx.x]) + offset; }

int main()
{
    std::vector<int> values(32);
    for (int i = 0; i < 32; i++)
        values[i] = i;
    Device<int> x(values);
    shift<<<1, 32>>>(x.at);
    CHECK(cudaGetLastError());
    values = x.read();
    for (int i = 0; i < 32; i++)
        EXPECT(values[i] == i * 4 + 1000);
    return passed("two_files");
}
