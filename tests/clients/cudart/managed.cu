// Memory that host and device both name by one address.
#include "check.h"

__managed__ int shared_total = 3;

__global__ void twice(int *x, int n)
{
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        x[i] *= 2;
    if (threadIdx.x == 0)
        shared_total += n;
}

int main()
{
    const int n = 5000;
    int *x = nullptr;
    CHECK(cudaMallocManaged(&x, n * sizeof(int)));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < n; i++)
            x[i] = i + round;
        twice<<<1, 128>>>(x, n);
        CHECK(cudaDeviceSynchronize());
        for (int i = 0; i < n; i++)
            EXPECT(x[i] == 2 * (i + round));
    }
    EXPECT(shared_total == 3 + 3 * n);
    CHECK(cudaFree(x));
    return passed("managed");
}
