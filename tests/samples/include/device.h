/* What a kernel needs of CUDA C, for clang without NVIDIA's headers. */
#ifndef PARAVANE_SAMPLES_DEVICE_H
#define PARAVANE_SAMPLES_DEVICE_H

#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#define __constant__ __attribute__((constant))

#define WARP_LANES 32u
#define ALL_LANES 0xffffffffu

#define SPECIAL_REGISTER(name, builtin) \
    __device__ static inline unsigned name##_x() { return (unsigned)__nvvm_read_ptx_sreg_##builtin##_x(); } \
    __device__ static inline unsigned name##_y() { return (unsigned)__nvvm_read_ptx_sreg_##builtin##_y(); }

SPECIAL_REGISTER(thread, tid)
SPECIAL_REGISTER(block, ctaid)
SPECIAL_REGISTER(threads, ntid)
SPECIAL_REGISTER(blocks, nctaid)

/* Written as PTX because the names of clang's builtins for these change from release to release. */
__device__ static inline void barrier() { asm volatile("bar.sync 0;" ::: "memory"); }

__device__ static inline unsigned shuffle_down(unsigned value, unsigned lanes) {
    unsigned result;
    asm volatile("shfl.sync.down.b32 %0, %1, %2, 0x1f, %3;"
                 : "=r"(result)
                 : "r"(value), "r"(lanes), "r"(ALL_LANES));
    return result;
}

__device__ static inline void atomic_add(unsigned long long *where, unsigned long long value) {
    __atomic_fetch_add(where, value, __ATOMIC_RELAXED);
}
__device__ static inline void atomic_max(unsigned *where, unsigned value) {
    asm volatile("red.max.u32 [%0], %1;" ::"l"(where), "r"(value) : "memory");
}

#endif
