/* Squares a part of a vector. */
#include "device.h"

extern "C" __global__ void parts(float *values, unsigned count) {
    unsigned stride = threads_x() * blocks_x();
    for (unsigned i = block_x() * threads_x() + thread_x(); i < count; i += stride)
        values[i] = values[i] * values[i];
}
