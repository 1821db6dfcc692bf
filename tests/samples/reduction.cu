/* Sum and maximum of unsigned integers: shuffles within a warp, shared memory within a block, atomics across blocks. */
#include "device.h"

struct result {
    unsigned long long sum;
    unsigned maximum;
    unsigned blocks;
};

extern "C" __global__ void reduce(const unsigned *values, unsigned count, result *out) {
    __shared__ unsigned long long sums[WARP_LANES];
    __shared__ unsigned maxima[WARP_LANES];
    unsigned thread = thread_x();
    unsigned warp = thread / WARP_LANES, lane = thread % WARP_LANES;

    unsigned low = 0, high = 0, maximum = 0;
    for (unsigned i = block_x() * threads_x() + thread; i < count; i += threads_x() * blocks_x()) {
        /* Halves of 16 bits, so that the shuffled 32-bit sums cannot overflow. */
        low += values[i] & 0xffff;
        high += values[i] >> 16;
        maximum = values[i] > maximum ? values[i] : maximum;
    }
    for (unsigned lanes = WARP_LANES / 2; lanes > 0; lanes /= 2) {
        low += shuffle_down(low, lanes);
        high += shuffle_down(high, lanes);
        unsigned other = shuffle_down(maximum, lanes);
        maximum = other > maximum ? other : maximum;
    }
    if (lane == 0) {
        sums[warp] = low + ((unsigned long long)high << 16);
        maxima[warp] = maximum;
    }
    barrier();

    if (thread == 0) {
        unsigned long long sum = 0;
        for (unsigned w = 0; w < (threads_x() + WARP_LANES - 1) / WARP_LANES; w++) {
            sum += sums[w];
            maximum = maxima[w] > maximum ? maxima[w] : maximum;
        }
        atomic_add(&out->sum, sum);
        atomic_max(&out->maximum, maximum);
        __atomic_fetch_add(&out->blocks, 1u, __ATOMIC_RELAXED);
    }
}
