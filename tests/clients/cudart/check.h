// What every program here uses: a call that fails or a wrong value ends the
// program with a line that begins with FAIL; passed() is the last line.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <vector>
#include <cuda_runtime.h>

#define CHECK(call)                                                                                  \
    do {                                                                                             \
        cudaError_t error_ = (call);                                                                 \
        if (error_ != cudaSuccess) {                                                                 \
            printf("FAIL line %d: %s: %s\n", __LINE__, #call, cudaGetErrorName(error_));             \
            exit(1);                                                                                 \
        }                                                                                            \
    } while (0)

#define EXPECT(condition)                                                                            \
    do {                                                                                             \
        if (!(condition)) {                                                                          \
            printf("FAIL line %d: %s\n", __LINE__, #condition);                                      \
            exit(1);                                                                                 \
        }                                                                                            \
    } while (0)

static inline int passed(const char *name)
{
    printf("PASS %s\n", name);
    return 0;
}

// Device memory of `count` elements that lives as long as this object.
template <class T> struct Device {
    T *at = nullptr;
    size_t count;
    explicit Device(size_t n) : count(n) { CHECK(cudaMalloc(&at, n * sizeof(T))); }
    explicit Device(const std::vector<T> &from) : Device(from.size())
    {
        CHECK(cudaMemcpy(at, from.data(), count * sizeof(T), cudaMemcpyHostToDevice));
    }
    Device(const Device &) = delete;
    ~Device() { cudaFree(at); }
    std::vector<T> read() const
    {
        std::vector<T> to(count);
        CHECK(cudaMemcpy(to.data(), at, count * sizeof(T), cudaMemcpyDeviceToHost));
        return to;
    }
};
