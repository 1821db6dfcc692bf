"""What CuPy has and NumPy lacks: kernels from source, streams, events, memory and its pools."""

import unittest

import cupy
import numpy as np

ADD = r"""
extern "C" __global__ void add(const float* x, const float* y, float* out, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        out[i] = x[i] + y[i];
}
extern "C" __global__ void reverse(int* x)
{
    extern __shared__ int line[];
    line[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = line[blockDim.x - 1 - threadIdx.x];
}
__constant__ int factor;
extern "C" __global__ void scale(int* x) { x[threadIdx.x] *= factor; }
template <class T> __global__ void fill(T* x, T value) { x[threadIdx.x] = value; }
"""


def equal(array, expected):
    np.testing.assert_array_equal(cupy.asnumpy(array), expected)


def test_RawKernel():
    x = cupy.arange(1000, dtype=cupy.float32)
    out = cupy.empty_like(x)
    cupy.RawKernel(ADD.split("__constant__")[0], "add")((8,), (128,), (x, x * 2, out, cupy.int32(1000)))
    equal(out, np.arange(1000, dtype=np.float32) * 3)


def test_RawKernel_attributes():
    kernel = cupy.RawKernel(ADD.split("__constant__")[0], "reverse")
    assert kernel.max_threads_per_block >= 32 and kernel.num_regs > 0
    kernel.max_dynamic_shared_size_bytes = 2048
    x = cupy.arange(64, dtype=cupy.int32)
    kernel((1,), (64,), (x,), shared_mem=256)
    equal(x, np.arange(64)[::-1])


def test_RawModule():
    module = cupy.RawModule(code=ADD)
    pointer = module.get_global("factor")
    cupy.ndarray((1,), cupy.int32, pointer)[...] = 5
    x = cupy.arange(32, dtype=cupy.int32)
    module.get_function("scale")((1,), (32,), (x,))
    equal(x, np.arange(32) * 5)


def test_RawModule_templates():
    module = cupy.RawModule(code=ADD.replace('extern "C" ', ""), name_expressions=["fill<float>", "fill<int>"])
    x = cupy.zeros(16, dtype=cupy.float32)
    module.get_function("fill<float>")((1,), (16,), (x, cupy.float32(2.5)))
    equal(x, np.full(16, 2.5, np.float32))


def test_ElementwiseKernel():
    kernel = cupy.ElementwiseKernel("T x, T y", "T z", "z = x * x + y", "squares")
    x = cupy.arange(50, dtype=cupy.float64)
    equal(kernel(x, 3), np.arange(50.0) ** 2 + 3)


def test_ReductionKernel():
    kernel = cupy.ReductionKernel("T x", "T y", "x * x", "a + b", "y = a", "0", "sum_of_squares")
    x = cupy.arange(40, dtype=cupy.int64).reshape(4, 10)
    equal(kernel(x), (np.arange(40) ** 2).sum())
    equal(kernel(x, axis=1), (np.arange(40).reshape(4, 10) ** 2).sum(axis=1))


def test_fuse():
    @cupy.fuse()
    def squares(x, y):
        return x * x + y * y

    x = cupy.arange(30, dtype=cupy.float32)
    equal(squares(x, x + 1), np.arange(30.0) ** 2 + np.arange(1.0, 31.0) ** 2)


def test_streams():
    first, second = cupy.cuda.Stream(), cupy.cuda.Stream(non_blocking=True)
    with first:
        x = cupy.arange(10000) * 2
        done = first.record()
    second.wait_event(done)
    with second:
        y = x + 1
    second.synchronize()
    assert first.done and second.done
    equal(y, np.arange(10000) * 2 + 1)


def test_events():
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    cupy.arange(1000).sum()
    end.record()
    end.synchronize()
    assert cupy.cuda.get_elapsed_time(start, end) >= 0


def test_stream_callback():
    seen = []
    stream = cupy.cuda.Stream()
    with stream:
        cupy.arange(1000)
        stream.launch_host_func(seen.append, 7)
    stream.synchronize()
    assert seen == [7]


def test_memory_pool():
    pool = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc):
        x = cupy.zeros(1 << 20, dtype=cupy.uint8)
        assert pool.used_bytes() >= 1 << 20
        del x
    assert pool.used_bytes() == 0 and pool.free_bytes() >= 1 << 20
    pool.free_all_blocks()
    assert pool.total_bytes() == 0


def test_memory_async_pool():
    pool = cupy.cuda.MemoryAsyncPool()
    with cupy.cuda.using_allocator(pool.malloc):
        equal(cupy.arange(100) + 1, np.arange(1, 101))


def test_pinned_memory():
    memory = cupy.cuda.alloc_pinned_memory(4096)
    host = np.frombuffer(memory, np.int32, 1024)
    host[...] = np.arange(1024)
    x = cupy.empty(1024, dtype=cupy.int32)
    x.set(host)
    equal(x * 2, np.arange(1024) * 2)


def test_managed_memory():
    with cupy.cuda.using_allocator(cupy.cuda.malloc_managed):
        x = cupy.arange(100)
        equal(x * 2, np.arange(100) * 2)


def test_graph():
    stream = cupy.cuda.Stream(non_blocking=True)
    x = cupy.zeros(64, dtype=cupy.float32)
    x += 1  # compiled before the capture
    stream.synchronize()
    with stream:
        stream.begin_capture()
        x += 1
        graph = stream.end_capture()
        for _ in range(5):
            graph.launch()
        stream.synchronize()
    equal(x, np.full(64, 6))


def test_device():
    device = cupy.cuda.Device(0)
    assert device.mem_info[1] > 0 and device.attributes["WarpSize"] == 32
    assert len(device.pci_bus_id) > 0 and int(device.compute_capability) >= 70
    assert cupy.cuda.runtime.getDeviceProperties(0)["name"]


def test_scatter():
    x = cupy.zeros(10, dtype=cupy.int32)
    cupy.add.at(x, cupy.array([1, 1, 3, 9, 9, 9]), 1)
    equal(x, [0, 2, 0, 1, 0, 0, 0, 0, 0, 3])


def test_maximum_at():
    x = cupy.zeros(4, dtype=cupy.float32)
    cupy.maximum.at(x, cupy.array([0, 0, 2]), cupy.array([1, 3, 2], dtype=cupy.float32))
    equal(x, [3, 0, 2, 0])


def test_dlpack():
    x = cupy.arange(12).reshape(3, 4)
    equal(cupy.from_dlpack(x), np.arange(12).reshape(3, 4))


def test_jit():
    from cupyx import jit

    @jit.rawkernel()
    def twice(x, n):
        i = jit.blockIdx.x * jit.blockDim.x + jit.threadIdx.x
        if i < n:
            x[i] = x[i] * 2

    x = cupy.arange(200, dtype=cupy.int32)
    twice((2,), (128,), (x, cupy.int32(200)))
    equal(x, np.arange(200) * 2)


def test_random_permutation_by_hash():
    """Pseudo-random numbers by a kernel of the program's own."""
    kernel = cupy.ElementwiseKernel("uint32 y", "uint32 z", "z = (y ^ 61) ^ (y >> 16); z *= 9; z ^= z >> 4; z *= 0x27d4eb2d; z ^= z >> 15", "hash")
    z = cupy.asnumpy(kernel(cupy.arange(1000, dtype=cupy.uint32)))
    i = np.arange(1000, dtype=np.uint32)
    expected = (i ^ np.uint32(61)) ^ (i >> 16)
    for step in (lambda z: z * np.uint32(9), lambda z: z ^ (z >> 4), lambda z: z * np.uint32(0x27D4EB2D), lambda z: z ^ (z >> 15)):
        expected = step(expected)
    np.testing.assert_array_equal(z, expected)


def test_vectorize():
    def straight(x):
        return x * 2 + 1

    x = np.linspace(-3, 3, 23)
    equal(cupy.vectorize(straight)(cupy.asarray(x)), x * 2 + 1)


def moments(values, mean, deviation):
    """Raises unless mean and deviation of many values are within five standard errors."""
    values = cupy.asnumpy(values).astype(np.float64)
    error = deviation / values.size**0.5
    assert abs(values.mean() - mean) < 5 * error, f"mean {values.mean()}, expected {mean}"
    assert abs(values.std() - deviation) < 5 * error, f"deviation {values.std()}, expected {deviation}"


def test_random_generator_xorwow():
    draw = lambda: cupy.random.Generator(cupy.random.XORWOW(5)).random(1000)
    equal(draw(), cupy.asnumpy(draw()))
    values = cupy.random.Generator(cupy.random.XORWOW(5)).random(40000)
    moments(values, 0.5, 12**-0.5)


def test_random_generator_philox():
    moments(cupy.random.Generator(cupy.random.Philox4x3210(7)).standard_normal(40000), 0, 1)


def test_random_generator_mrg():
    moments(cupy.random.Generator(cupy.random.MRG32k3a(9)).exponential(2.0, 40000), 2, 2)


def test_random_generator_integers():
    values = cupy.random.default_rng(3).integers(0, 6, 30000)
    counts = cupy.asnumpy(cupy.bincount(values))
    assert counts.size == 6 and abs(counts - 5000).max() < 350, counts


def needs_curand():
    try:
        from cupy_backends.cuda.libs import curand  # noqa: F401
        cupy.random.RandomState(1)
    except ImportError as error:
        raise unittest.SkipTest("cuRAND is not installed") from error


def test_random_by_curand():
    """The older interface, over cuRAND's kernels."""
    needs_curand()
    moments(cupy.random.RandomState(11).rand(40000), 0.5, 12**-0.5)


def test_random_shuffle():
    needs_curand()
    values = cupy.random.RandomState(11).permutation(100)
    equal(cupy.sort(values), np.arange(100))
