/* C = scale * A B for square matrices, in tiles held in shared memory. The edge need not be a multiple of the tile. */
#include "device.h"

#define TILE 16

__device__ float scale = 1.0f;

extern "C" __global__ void matmul(const float *a, const float *b, float *c, unsigned n) {
    __shared__ float tile_a[TILE][TILE];
    __shared__ float tile_b[TILE][TILE];
    unsigned tx = thread_x(), ty = thread_y();
    unsigned column = block_x() * TILE + tx;
    unsigned row = block_y() * TILE + ty;

    float sum = 0.0f;
    for (unsigned start = 0; start < n; start += TILE) {
        tile_a[ty][tx] = row < n && start + tx < n ? a[row * n + start + tx] : 0.0f;
        tile_b[ty][tx] = column < n && start + ty < n ? b[(start + ty) * n + column] : 0.0f;
        barrier();
        for (unsigned k = 0; k < TILE; k++)
            sum += tile_a[ty][k] * tile_b[k][tx];
        barrier();
    }
    if (row < n && column < n)
        c[row * n + column] = scale * sum;
}
