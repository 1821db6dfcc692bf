// A grid whose blocks wait for each other, launched by its own call and by an attribute.
#include "check.h"
#include <cooperative_groups.h>

namespace groups = cooperative_groups;

__global__ void rotate(int *from, int *to, int rounds)
{
    groups::grid_group grid = groups::this_grid();
    int n = grid.size(), me = grid.thread_rank();
    for (int round = 0; round < rounds; round++) {
        to[(me + 1) % n] = from[me];
        grid.sync();
        int *other = from;
        from = to;
        to = other;
    }
}

__global__ void tiles(int *out)
{
    groups::thread_block_tile<8> tile = groups::tiled_partition<8>(groups::this_thread_block());
    int value = threadIdx.x;
    for (int lane = 4; lane; lane /= 2)
        value += tile.shfl_xor(value, lane);
    out[threadIdx.x] = value;
}

int main()
{
    int supported = 0;
    CHECK(cudaDeviceGetAttribute(&supported, cudaDevAttrCooperativeLaunch, 0));
    EXPECT(supported == 1);
    const int blocks = 2, threads = 64, n = blocks * threads;
    std::vector<int> x(n);
    for (int i = 0; i < n; i++)
        x[i] = i;
    Device<int> a(x), b(x);
    int rounds = 10;
    void *parameters[] = {&a.at, &b.at, &rounds};
    CHECK(cudaLaunchCooperativeKernel((void *)rotate, blocks, threads, parameters, 0, 0));
    std::vector<int> y = a.read();
    for (int i = 0; i < n; i++)
        EXPECT(y[(i + rounds) % n] == i);

    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeCooperative;
    attribute.val.cooperative = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = blocks;
    config.blockDim = threads;
    config.attrs = &attribute;
    config.numAttrs = 1;
    CHECK(cudaLaunchKernelEx(&config, rotate, a.at, b.at, rounds));
    y = a.read();
    for (int i = 0; i < n; i++)
        EXPECT(y[(i + 2 * rounds) % n] == i);
    CHECK(cudaLaunchCooperativeKernel((void *)tiles, 1, 64, (void **)&parameters[0], 0, 0));
    y = a.read();
    for (int i = 0; i < 64; i++)
        EXPECT(y[i] == (i / 8 * 8) * 8 + 28);
    EXPECT(cudaLaunchCooperativeKernel((void *)rotate, 1 << 20, threads, parameters, 0, 0) == cudaErrorCooperativeLaunchTooLarge);
    cudaGetLastError();
    return passed("cooperative");
}
