// Memory of the host that the device reaches: pinned, mapped, registered.
#include "check.h"
#include <cstring>
#include <sys/mman.h>

__global__ void twice(int *x, int n)
{
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        x[i] *= 2;
}

int main()
{
    const int n = 100000;
    const size_t bytes = n * sizeof(int);
    int *mapped = nullptr, *on_device = nullptr;
    CHECK(cudaHostAlloc(&mapped, bytes, cudaHostAllocMapped | cudaHostAllocPortable));
    unsigned flags = 0;
    CHECK(cudaHostGetFlags(&flags, mapped));
    EXPECT(flags & cudaHostAllocMapped);
    CHECK(cudaHostGetDevicePointer(&on_device, mapped, 0));
    for (int i = 0; i < n; i++)
        mapped[i] = i;
    twice<<<1, 256>>>(on_device, n);
    CHECK(cudaDeviceSynchronize());
    for (int i = 0; i < n; i++)
        EXPECT(mapped[i] == 2 * i);

    int *own = (int *)mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 1000; i++)
        own[i] = i;
    CHECK(cudaHostRegister(own, 1 << 20, cudaHostRegisterMapped));
    EXPECT(own[999] == 999);
    EXPECT(cudaHostRegister(own, 1 << 20, 0) == cudaErrorHostMemoryAlreadyRegistered);
    cudaGetLastError();
    CHECK(cudaHostGetDevicePointer(&on_device, own, 0));
    twice<<<1, 256>>>(on_device, 1000);
    CHECK(cudaDeviceSynchronize());
    EXPECT(own[999] == 1998);
    Device<int> x(1000);
    CHECK(cudaMemcpy(x.at, own, 1000 * sizeof(int), cudaMemcpyDefault));
    CHECK(cudaHostUnregister(own));
    own[0] = 77;
    EXPECT(own[999] == 1998 && x.read()[10] == 20);
    munmap(own, 1 << 20);
    CHECK(cudaFreeHost(mapped));
    return passed("host_memory");
}
