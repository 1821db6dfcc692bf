"""CuPy: universal functions, reductions, sorting, kernels from source, streams, graphs, pools."""

import measure

try:
    import cupy
except ImportError:
    measure.skip("cupy is not installed")

import numpy as np  # noqa: E402

try:
    cupy.cuda.runtime.getDeviceCount()
except cupy.cuda.runtime.CUDARuntimeError as error:
    measure.skip(f"cupy sees no device: {error}")

KERNEL = r"""
extern "C" __global__ void smooth(const float* x, float* y, int n)
{
    extern __shared__ float line[];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    line[threadIdx.x] = i < n ? x[i] : 0.0f;
    __syncthreads();
    float left = threadIdx.x ? line[threadIdx.x - 1] : line[0];
    if (i < n)
        y[i] = 0.5f * (left + line[threadIdx.x]);
}
"""


def values(*shape, seed=1):
    return cupy.asarray(np.random.RandomState(seed).uniform(-1, 1, shape).astype(np.float32))


def elementwise():
    x, y = values(1 << 18), values(1 << 18, seed=2)
    return lambda: (cupy.sin(x) * y + cupy.exp(x))[::1000].get()


def reductions():
    x = values(512, 700)
    return lambda: cupy.concatenate([x.sum(1), x.max(1), x.argmax(1).astype(cupy.float32)]).get()


def sorting():
    x = values(1 << 15)
    return lambda: cupy.sort(x)[::100].get()


def own_kernel():
    kernel = cupy.RawKernel(KERNEL, "smooth")
    x = values(100_000)

    def run():
        y = cupy.empty_like(x)
        kernel((391,), (256,), (x, y, np.int32(x.size)), shared_mem=1024)
        return y[::100].get()

    return run


def streams():
    first, second = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)
    x = values(1 << 16)
    cupy.cuda.runtime.deviceSynchronize()

    def run():
        with first:
            y = x * 3
            done = first.record()
        second.wait_event(done)
        with second:
            z = y + 1
        second.synchronize()
        return z[::100].get()

    return run


def graph():
    stream = cupy.cuda.Stream(non_blocking=True)
    x = cupy.zeros(4096, dtype=cupy.float32)
    with stream:
        x += 1
    stream.synchronize()
    with stream:
        stream.begin_capture()
        for _ in range(20):
            x += 1
        captured = stream.end_capture()

    def run():
        with stream:
            x.fill(0)
            for _ in range(10):
                captured.launch()
            stream.synchronize()
            return x[::64].get()

    return run


def pools():
    def run():
        pool = cupy.cuda.MemoryAsyncPool()
        with cupy.cuda.using_allocator(pool.malloc):
            total = cupy.zeros(1000, dtype=cupy.float32)
            for size in range(1000, 50_000, 1000):
                total += cupy.full(size, 2, dtype=cupy.float32)[:1000]
            return total.get()

    return run


CASES = [
    ("elementwise", elementwise, 1e-6),
    ("reductions", reductions, 1e-6),
    ("sort", sorting, 0),
    ("kernel from source", own_kernel, 0),
    ("streams", streams, 0),
    ("graph", graph, 0),
    ("pool", pools, 0),
]
measure.run([(f"cupy {name}", make(), tolerance) for name, make, tolerance in CASES], cupy.cuda.runtime.deviceSynchronize)
