// Streams, events and copies that run behind the program's back, in the order that they are given.
#include "check.h"
#include <cstring>

__global__ void add(int *x, int value, int n)
{
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        x[i] += value;
}

__global__ void copy_after(const int *from, int *to, int n)
{
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        to[i] = from[i] * 10;
}

int main()
{
    const int n = 4096;
    const size_t bytes = n * sizeof(int);
    int least = 0, greatest = 0;
    CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    cudaStream_t first, second, low;
    CHECK(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
    CHECK(cudaStreamCreateWithPriority(&second, cudaStreamNonBlocking, greatest));
    CHECK(cudaStreamCreate(&low));
    int priority = 99;
    unsigned flags = 99;
    CHECK(cudaStreamGetPriority(second, &priority));
    CHECK(cudaStreamGetFlags(second, &flags));
    EXPECT(priority == greatest && flags == cudaStreamNonBlocking);

    int *host = nullptr;
    CHECK(cudaMallocHost(&host, bytes));
    for (int i = 0; i < n; i++)
        host[i] = i;
    Device<int> x(n), y(n);
    cudaEvent_t start, done, timeless;
    CHECK(cudaEventCreate(&start));
    CHECK(cudaEventCreate(&done));
    CHECK(cudaEventCreateWithFlags(&timeless, cudaEventDisableTiming));
    CHECK(cudaEventRecord(start, first));
    CHECK(cudaMemcpyAsync(x.at, host, bytes, cudaMemcpyHostToDevice, first));
    for (int round = 0; round < 50; round++)
        add<<<1, 128, 0, first>>>(x.at, 2, n);
    CHECK(cudaEventRecord(done, first));
    CHECK(cudaStreamWaitEvent(second, done, 0));
    copy_after<<<1, 128, 0, second>>>(x.at, y.at, n);
    CHECK(cudaMemcpyAsync(host, y.at, bytes, cudaMemcpyDeviceToHost, second));
    CHECK(cudaEventRecord(timeless, second));
    CHECK(cudaEventSynchronize(timeless));
    for (int i = 0; i < n; i++)
        EXPECT(host[i] == (i + 100) * 10);
    EXPECT(cudaEventQuery(done) == cudaSuccess && cudaStreamQuery(second) == cudaSuccess);
    float milliseconds = -1;
    CHECK(cudaEventElapsedTime(&milliseconds, start, done));
    EXPECT(milliseconds >= 0);
    EXPECT(cudaEventElapsedTime(&milliseconds, start, timeless) == cudaErrorInvalidResourceHandle);
    cudaGetLastError();

    // The legacy default stream waits for a blocking stream, and that for it.
    CHECK(cudaMemset(x.at, 0, bytes));
    for (int round = 0; round < 20; round++) {
        add<<<1, 128, 0, low>>>(x.at, 1, n);
        add<<<1, 128>>>(x.at, 1, n);
    }
    EXPECT(x.read()[n - 1] == 40);

    CHECK(cudaMemsetAsync(x.at, 1, bytes, low));
    CHECK(cudaMemcpyAsync(y.at, x.at, bytes, cudaMemcpyDeviceToDevice, low));
    std::vector<int> pageable(n);
    CHECK(cudaMemcpyAsync(pageable.data(), y.at, bytes, cudaMemcpyDeviceToHost, low));
    CHECK(cudaStreamSynchronize(low));
    EXPECT(pageable[0] == 0x01010101 && pageable[n - 1] == 0x01010101);
    CHECK(cudaStreamDestroy(first));
    CHECK(cudaStreamDestroy(second));
    CHECK(cudaStreamDestroy(low));
    CHECK(cudaEventDestroy(start));
    CHECK(cudaEventDestroy(done));
    CHECK(cudaEventDestroy(timeless));
    CHECK(cudaFreeHost(host));
    return passed("streams");
}
