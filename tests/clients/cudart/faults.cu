// A kernel that fails: the error is the context's, and every later call answers it.
#include "check.h"

__global__ void wild(int *at) { *at = 1; }

int main()
{
    Device<int> fine(std::vector<int>(4, 1));
    wild<<<1, 1>>>((int *)16);
    CHECK(cudaGetLastError());
    EXPECT(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
    int *more = nullptr;
    EXPECT(cudaMalloc(&more, 4) == cudaErrorIllegalAddress);
    EXPECT(cudaGetLastError() == cudaErrorIllegalAddress);
    wild<<<1, 1>>>(fine.at);
    EXPECT(cudaGetLastError() == cudaErrorIllegalAddress);
    fine.at = nullptr;
    return passed("faults");
}
