/* Each thread takes its number so many steps further in one sequence: work that takes as long as it is told. */
#include "device.h"

extern "C" __global__ void walk(unsigned *numbers, unsigned steps) {
    unsigned i = block_x() * threads_x() + thread_x();
    unsigned number = numbers[i];
    for (unsigned step = 0; step < steps; step++)
        number = number * 1664525u + 1013904223u;
    numbers[i] = number;
}
