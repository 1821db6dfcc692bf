/* c = a + b, each thread striding over the grid. */
#include "device.h"

extern "C" __global__ void vector_add(const float *a, const float *b, float *c, unsigned count) {
    unsigned stride = threads_x() * blocks_x();
    for (unsigned i = block_x() * threads_x() + thread_x(); i < count; i += stride)
        c[i] = a[i] + b[i];
}
