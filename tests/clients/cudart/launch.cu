// Devices, launches with parameters of every kind, and what a bad launch answers.
#include "check.h"

struct Big {
    double values[400];
    int tail;
};

__global__ void axpy(float a, const float *x, float *y, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        y[i] = a * x[i] + y[i];
}

__global__ void mixed(char c, double d, short s, Big big, int3 three, long long *out)
{
    out[0] = c + (long long)d + s + (long long)big.values[399] + big.tail + three.x + three.y + three.z;
}

__global__ void nothing() {}

template <class T, int N> __global__ void scale(T *x)
{
    x[threadIdx.x] *= N;
}

// A driver may tell the shape of a launch from other arguments, or not.
static bool is_refused(cudaError_t error)
{
    return error == cudaErrorInvalidConfiguration || error == cudaErrorInvalidValue;
}

int main()
{
    int count = 0, device = -1;
    CHECK(cudaGetDeviceCount(&count));
    EXPECT(count >= 1);
    cudaDeviceProp properties;
    CHECK(cudaGetDeviceProperties(&properties, 0));
    EXPECT(properties.name[0] && properties.totalGlobalMem > 0 && properties.warpSize == 32);
    CHECK(cudaSetDevice(0));
    CHECK(cudaGetDevice(&device));
    EXPECT(device == 0 && cudaSetDevice(count) == cudaErrorInvalidDevice);
    EXPECT(cudaGetLastError() == cudaErrorInvalidDevice && cudaGetLastError() == cudaSuccess);
    int runtime = 0, driver = 0;
    CHECK(cudaRuntimeGetVersion(&runtime));
    CHECK(cudaDriverGetVersion(&driver));
    EXPECT(runtime == CUDART_VERSION && driver >= 12000);

    const int n = 10000;
    std::vector<float> x(n), y(n);
    for (int i = 0; i < n; i++)
        x[i] = i, y[i] = 2 * i;
    Device<float> dx(x), dy(y);
    axpy<<<(n + 127) / 128, 128>>>(3, dx.at, dy.at, n);
    CHECK(cudaGetLastError());
    CHECK(cudaDeviceSynchronize());
    y = dy.read();
    for (int i = 0; i < n; i++)
        EXPECT(y[i] == 5.0f * i);

    Big big = {};
    big.values[399] = 1000;
    big.tail = 20000;
    Device<long long> out(1);
    mixed<<<1, 1>>>(1, 2.5, 30, big, make_int3(1, 2, 3), out.at);
    EXPECT(out.read()[0] == 1 + 2 + 30 + 1000 + 20000 + 6);

    nothing<<<dim3(3, 2, 1), dim3(4, 4, 2)>>>();
    CHECK(cudaGetLastError());
    scale<float, 7><<<1, 32>>>(dx.at);
    Device<int> whole(std::vector<int>(32, 6));
    scale<int, 7><<<1, 32>>>(whole.at);
    EXPECT(whole.read()[31] == 42 && dx.read()[31] == 31 * 7);

    nothing<<<1, 2000>>>();
    EXPECT(is_refused(cudaGetLastError()));
    nothing<<<0, 1>>>();
    EXPECT(is_refused(cudaGetLastError()));
    CHECK(cudaDeviceSynchronize());

    size_t before = 0, after = 0, total = 0;
    CHECK(cudaMemGetInfo(&before, &total));
    {
        Device<char> taken(64 << 20);
        CHECK(cudaMemGetInfo(&after, &total));
        EXPECT(before - after >= size_t(64) << 20 && total >= before);
    }
    EXPECT(cudaMalloc((void **)&dx.at, size_t(1) << 60) == cudaErrorMemoryAllocation);
    dx.at = nullptr;
    EXPECT(cudaGetLastError() == cudaErrorMemoryAllocation);
    return passed("launch");
}
