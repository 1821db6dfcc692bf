"""Programs over cuda-core's public interface: what its examples show, as far as it needs no display and one device. They are
written here, because its package on PyPI carries none.
"""

import os
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(FOLDER), FOLDER]
import lines  # noqa: E402

import ctypes  # noqa: E402

import numpy as np  # noqa: E402
from cuda import core  # noqa: E402
from cuda.core import graph  # noqa: E402

SOURCE = r"""
template <class T> __global__ void saxpy(T a, const T* x, const T* y, T* out, size_t n)
{
    for (size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        out[i] = a * x[i] + y[i];
}
extern "C" __global__ void reverse(int* x)
{
    extern __shared__ int line[];
    line[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = line[blockDim.x - 1 - threadIdx.x];
}
extern "C" __global__ void add(int* x, int value) { x[blockIdx.x * blockDim.x + threadIdx.x] += value; }
extern "C" __global__ void twice(int* x) { x[blockIdx.x * blockDim.x + threadIdx.x] *= 2; }
"""


def device():
    one = core.Device()
    one.set_current()
    return one


def module(source=SOURCE, names=("saxpy<float>", "saxpy<double>"), **options):
    options = core.ProgramOptions(std="c++17", arch="compute_80", **options)
    program = core.Program(source, "c++", options)
    return program.compile("ptx", name_expressions=names)


def host_array(memory, kind):
    """A pinned or managed buffer as an array of NumPy's."""
    bytes_of = (ctypes.c_byte * memory.size).from_address(int(memory.handle))
    return np.frombuffer(bytes_of, dtype=kind)


class Space:
    """Device memory beside pinned host memory of the same size."""

    def __init__(self, one, stream, values):
        self.stream = stream
        self.host_memory = core.LegacyPinnedMemoryResource().allocate(values.nbytes, stream=stream)
        self.memory = one.memory_resource.allocate(values.nbytes, stream=stream)
        self.host = host_array(self.host_memory, values.dtype)
        self.host[:] = values
        self.memory.copy_from(self.host_memory, stream=stream)

    def values(self):
        self.memory.copy_to(self.host_memory, stream=self.stream)
        self.stream.sync()
        return self.host.copy()

    def __int__(self):
        return int(self.memory.handle)


def test_device():
    one = device()
    assert one.name and len(one.uuid) == 36 and one.pci_bus_id
    assert one.compute_capability >= (7, 0) and one.arch == "".join(map(str, one.compute_capability))
    assert one.properties.warp_size == 32 and one.properties.multiprocessor_count >= 1
    assert one.properties.max_threads_per_block >= 1024
    assert len(core.Device.get_all_devices()) == 1


def test_launch():
    one = device()
    stream = one.create_stream()
    kinds = {"saxpy<float>": np.float32, "saxpy<double>": np.float64}
    code = module()
    for name, kind in kinds.items():
        x, y = (np.random.RandomState(seed).uniform(-1, 1, 5000).astype(kind) for seed in (1, 2))
        a, b, out = Space(one, stream, x), Space(one, stream, y), Space(one, stream, np.zeros_like(x))
        config = core.LaunchConfig(grid=16, block=128)
        core.launch(stream, config, code.get_kernel(name), kind(3), int(a), int(b), int(out), np.uint64(5000))
        np.testing.assert_allclose(out.values(), kind(3) * x + y, rtol=1e-6, atol=1e-6)


def test_launch_with_shared_memory():
    one = device()
    stream = one.create_stream()
    x = Space(one, stream, np.arange(64, dtype=np.int32))
    core.launch(stream, core.LaunchConfig(grid=1, block=64, shmem_size=256), module().get_kernel("reverse"), x.memory)
    np.testing.assert_array_equal(x.values(), np.arange(64)[::-1])


def test_launch_cooperative():
    """Blocks that wait for each other, which only a cooperative launch promises to run together."""
    source = r"""
    extern "C" __global__ void sum(int* x, int* out, volatile unsigned* arrived)
    {
        x[blockIdx.x * blockDim.x + threadIdx.x] += 1;
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) {
            atomicAdd((unsigned*)arrived, 1);
            while (*arrived < gridDim.x) {}
            __threadfence();
            for (int i = 0; i < gridDim.x * blockDim.x; ++i)
                out[blockIdx.x] += ((volatile int*)x)[i];
        }
    }
    """
    one = device()
    stream = one.create_stream()
    x, out = Space(one, stream, np.arange(128, dtype=np.int32)), Space(one, stream, np.zeros(4, np.int32))
    arrived = Space(one, stream, np.zeros(1, np.uint32))
    config = core.LaunchConfig(grid=4, block=32, is_cooperative=True)
    core.launch(stream, config, module(source, ()).get_kernel("sum"), x.memory, out.memory, arrived.memory)
    np.testing.assert_array_equal(out.values(), np.full(4, np.arange(1, 129).sum()))


def test_kernel_attributes():
    device()
    kernel = module().get_kernel("reverse")
    assert kernel.num_arguments == 1 and kernel.arguments_info[0].size == 8
    assert kernel.attributes[core.Device()].max_threads_per_block >= 64
    occupancy = kernel.occupancy
    assert occupancy.max_active_blocks_per_multiprocessor(128, 0) >= 1


def test_streams_and_events():
    one = device()
    first, second = one.create_stream(), one.create_stream(options=core.StreamOptions(priority=-1))
    x = Space(one, first, np.zeros(256, np.int32))
    code = module()
    config = core.LaunchConfig(grid=2, block=128)
    timed = core.EventOptions(timing_enabled=True)
    start = first.record(options=timed)
    core.launch(first, config, code.get_kernel("add"), x.memory, np.int32(5))
    second.wait(first)
    core.launch(second, config, code.get_kernel("twice"), x.memory)
    end = second.record(options=timed)
    end.sync()
    assert end.is_done and end - start >= 0
    first.wait(end)
    np.testing.assert_array_equal(x.values(), np.full(256, 10))


def test_default_streams():
    one = device()
    for stream in (core.LEGACY_DEFAULT_STREAM, core.PER_THREAD_DEFAULT_STREAM, one.default_stream):
        x = Space(one, stream, np.zeros(128, np.int32))
        core.launch(stream, core.LaunchConfig(grid=1, block=128), module().get_kernel("add"), x.memory, np.int32(1))
        np.testing.assert_array_equal(x.values(), np.ones(128))


def test_buffers():
    one = device()
    stream = one.create_stream()
    memory = core.DeviceMemoryResource(one)
    one_buffer, other = (memory.allocate(4096, stream=stream) for _ in range(2))
    one_buffer.fill(np.int32(0x01020304), stream=stream)
    other.copy_from(one_buffer, stream=stream)
    pinned = core.LegacyPinnedMemoryResource().allocate(4096, stream=stream)
    other.copy_to(pinned, stream=stream)
    stream.sync()
    assert (host_array(pinned, np.int32) == 0x01020304).all()
    assert one_buffer.is_device_accessible and not one_buffer.is_host_accessible and pinned.is_host_accessible
    [buffer.close(stream) for buffer in (one_buffer, other)]


def test_buffers_of_managed_memory():
    one = device()
    stream = one.create_stream()
    memory = core.ManagedMemoryResource().allocate(512, stream=stream)
    stream.sync()
    host_array(memory, np.int32)[:] = 3
    core.launch(stream, core.LaunchConfig(grid=1, block=128), module().get_kernel("twice"), memory)
    stream.sync()
    assert (host_array(memory, np.int32) == 6).all()


def test_buffers_of_a_pinned_pool():
    one = device()
    stream = one.create_stream()
    memory = core.PinnedMemoryResource().allocate(512, stream=stream)
    stream.sync()
    host_array(memory, np.int32)[:] = 3
    core.launch(stream, core.LaunchConfig(grid=1, block=128), module().get_kernel("twice"), memory)
    stream.sync()
    assert (host_array(memory, np.int32) == 6).all()


def test_buffers_of_virtual_memory():
    one = device()
    stream = one.create_stream()
    memory = core.VirtualMemoryResource(one).allocate(2 << 20, stream=stream)
    memory.fill(7, stream=stream)
    pinned = core.LegacyPinnedMemoryResource().allocate(memory.size, stream=stream)
    memory.copy_to(pinned, stream=stream)
    stream.sync()
    assert (host_array(pinned, np.uint8) == 7).all()


def test_copies_in_a_batch():
    one = device()
    stream = one.create_stream()
    sources = [Space(one, stream, np.full(100, number, np.int32)) for number in range(4)]
    targets = [Space(one, stream, np.zeros(100, np.int32)) for _ in range(4)]
    core.utils.copy_batch(stream, [space.memory for space in sources], [space.memory for space in targets])
    for number, space in enumerate(targets):
        np.testing.assert_array_equal(space.values(), np.full(100, number))


def test_views():
    one = device()
    stream = one.create_stream()
    space = Space(one, stream, np.arange(12, dtype=np.int32))
    view = core.utils.StridedMemoryView.from_buffer(space.memory, (3, 4), dtype=np.dtype(np.int32))
    assert view.shape == (3, 4) and view.is_device_accessible and view.ptr == int(space)


def test_linking():
    """Two programs that call each other, linked by the driver: nvJitLink, which makes machine code, is not installed."""
    device()
    options = core.ProgramOptions(relocatable_device_code=True, arch="compute_80", std="c++17")
    main = 'extern __device__ int more(int); extern "C" __global__ void k(int* x) { x[threadIdx.x] = more(threadIdx.x); }'
    parts = [core.Program(text, "c++", options).compile("ptx") for text in (main, "__device__ int more(int x) { return x + 40; }")]
    linker = core.Linker(*parts, options=core.LinkerOptions(arch="sm_80"))
    linked = linker.link("cubin")
    one = device()
    stream = one.create_stream()
    x = Space(one, stream, np.zeros(32, np.int32))
    core.launch(stream, core.LaunchConfig(grid=1, block=32), linked.get_kernel("k"), x.memory)
    np.testing.assert_array_equal(x.values(), np.arange(40, 72))


def test_graph_by_capture():
    """A fork and a join, a host function, and an update with another number."""
    one = device()
    stream = one.create_stream()
    code = module()
    x, y = (Space(one, stream, np.zeros(128, np.int32)) for _ in range(2))
    config = core.LaunchConfig(grid=1, block=128)
    seen = []

    def build(number):
        builder = one.create_graph_builder().begin_building()
        builder.callback(lambda: seen.append(number))
        core.launch(builder, config, code.get_kernel("add"), x.memory, np.int32(number))
        left, right = builder.split(2)
        core.launch(left, config, code.get_kernel("twice"), x.memory)
        core.launch(right, config, code.get_kernel("add"), y.memory, np.int32(number))
        return graph.GraphBuilder.join(left, right).end_building()

    first = build(1)
    executable = first.complete()
    for _ in range(3):
        executable.launch(stream)
    stream.sync()
    np.testing.assert_array_equal(x.values(), np.full(128, 14))
    np.testing.assert_array_equal(y.values(), np.full(128, 3))
    executable.update(build(2))
    executable.launch(stream)
    stream.sync()
    np.testing.assert_array_equal(x.values(), np.full(128, 32))
    assert seen == [1, 1, 1, 2]


def test_graph_by_definition():
    one = device()
    stream = one.create_stream()
    code = module()
    x = Space(one, stream, np.ones(128, np.int32))
    definition = graph.GraphDefinition()
    config = core.LaunchConfig(grid=1, block=128)
    first = definition.launch(config, code.get_kernel("add"), x.memory, np.int32(4))
    first.launch(config, code.get_kernel("twice"), x.memory)
    assert len(definition.nodes()) == 2 and len(definition.edges()) == 1
    executable = definition.instantiate()
    executable.launch(stream)
    np.testing.assert_array_equal(x.values(), np.full(128, 10))


def test_texture_and_surface():
    from cuda.core import texture

    source = r"""
    extern "C" __global__ void sample(cudaTextureObject_t from, float* out, int width)
    {
        int x = threadIdx.x, y = blockIdx.x;
        out[y * width + x] = tex2D<float>(from, x + 1.0f, y + 0.5f);
    }
    """
    one = device()
    stream = one.create_stream()
    values = np.arange(32, dtype=np.float32).reshape(4, 8) ** 2
    space = Space(one, stream, values.ravel())
    options = texture.OpaqueArrayOptions(shape=(8, 4), format="float32", num_channels=1)
    array = one.create_opaque_array(options)
    array.copy_from(space.memory, stream=stream)
    resource = texture.ResourceDescriptor.from_opaque_array(array)
    sampler = one.create_texture_object(resource=resource, options=texture.TextureObjectOptions(filter_mode="linear", address_mode="clamp"))
    out = Space(one, stream, np.zeros(32, np.float32))
    kernel = module(source, ()).get_kernel("sample")
    core.launch(stream, core.LaunchConfig(grid=4, block=8), kernel, np.uint64(int(sampler.handle)), out.memory, np.int32(8))
    right = np.concatenate([values[:, 1:], values[:, -1:]], axis=1)
    np.testing.assert_allclose(out.values().reshape(4, 8), (values + right) / 2)


def test_machine_code_is_refused():
    device()
    program = core.Program(SOURCE, "c++", core.ProgramOptions(arch="sm_80", std="c++17"))
    try:
        program.compile("cubin").get_kernel("add")
    except Exception as error:
        assert "NO_BINARY_FOR_GPU" in str(error), str(error)
    else:
        assert "Paravane" not in core.Device().name, "the CPU device took machine code"


def test_errors_name_the_result():
    one = device()
    stream = one.create_stream()
    kernel = module().get_kernel("add")
    try:
        core.launch(stream, core.LaunchConfig(grid=1, block=4096), kernel, np.uint64(0), np.int32(0))
    except Exception as error:
        assert "INVALID" in str(error) or "block" in str(error).lower(), str(error)
    else:
        raise AssertionError("a block of 4096 threads was launched")


def test_green_context():
    one = device()
    resource = one.resources.sm
    groups, _ = resource.split(core.SMResourceOptions(count=resource.min_partition_size))
    assert groups[0].sm_count >= resource.min_partition_size
    context = one.create_context(core.ContextOptions(resources=groups[:1]))
    one.set_current(context)
    stream = one.create_stream()
    space = Space(one, stream, np.arange(64, dtype=np.int32))
    kernel = module().get_kernel("add")
    core.launch(stream, core.LaunchConfig(grid=8, block=8), kernel, space.memory, np.int32(7))
    assert (space.values() == np.arange(64) + 7).all()
    stream.close()
    device()


def cases():
    yield from lines.functions(sys.modules[__name__])


def is_lost():
    try:
        device().sync()
    except Exception:
        return True
    return False


if __name__ == "__main__":
    lines.main(__file__, cases, is_lost)
