// Variables of the module: constant, device and initialised ones, by symbol.
#include "check.h"
#include <cstring>

__constant__ float coefficients[16];
__constant__ int three = 3;
__device__ int counter = 5;
__device__ double table[4] = {1, 2, 3, 4};
__device__ int *pointer;

__global__ void weigh(const float *x, float *y)
{
    y[threadIdx.x] = x[threadIdx.x] * coefficients[threadIdx.x] * three;
}

__global__ void count()
{
    atomicAdd(&counter, 1);
    if (pointer)
        atomicAdd(pointer, 2);
    table[threadIdx.x % 4] += 0.0;
}

int main()
{
    std::vector<float> x(16, 2), weights(16);
    for (int i = 0; i < 16; i++)
        weights[i] = i;
    CHECK(cudaMemcpyToSymbol(coefficients, weights.data(), sizeof coefficients));
    Device<float> in(x), out(16);
    weigh<<<1, 16>>>(in.at, out.at);
    for (int i = 0; i < 16; i++)
        EXPECT(out.read()[i] == 6.0f * i);
    int five = 5;
    CHECK(cudaMemcpyToSymbol(three, &five, sizeof five));
    weigh<<<1, 16>>>(in.at, out.at);
    EXPECT(out.read()[15] == 150);

    Device<int> cell(std::vector<int>{0});
    CHECK(cudaMemcpyToSymbol(pointer, &cell.at, sizeof cell.at));
    count<<<10, 32>>>();
    int now = 0;
    CHECK(cudaMemcpyFromSymbol(&now, counter, sizeof now));
    EXPECT(now == 325 && cell.read()[0] == 640);

    double *address = nullptr, values[4];
    size_t bytes = 0;
    CHECK(cudaGetSymbolAddress((void **)&address, table));
    CHECK(cudaGetSymbolSize(&bytes, table));
    EXPECT(bytes == sizeof values);
    CHECK(cudaMemcpy(values, address, bytes, cudaMemcpyDeviceToHost));
    EXPECT(values[0] == 1 && values[3] == 4);
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    float last[2] = {8, 9};
    CHECK(cudaMemcpyToSymbolAsync(coefficients, last, sizeof last, 14 * sizeof(float), cudaMemcpyHostToDevice, stream));
    CHECK(cudaMemcpyFromSymbolAsync(weights.data(), coefficients, sizeof coefficients, 0, cudaMemcpyDeviceToHost, stream));
    CHECK(cudaStreamSynchronize(stream));
    EXPECT(weights[13] == 13 && weights[14] == 8 && weights[15] == 9);
    CHECK(cudaStreamDestroy(stream));
    return passed("symbols");
}
