"""PyTorch on a device without NVIDIA's machine code. What needs no kernel must work: the device, its memory, copies, streams,
events, graphs of copies. A kernel that PyTorch carries as machine code alone must fail with an error that says so. Kernels
that come as PTX must run: NVRTC's, Triton's, and those that torch.compile writes.
"""

import os
import subprocess
import sys
import tempfile
import unittest

FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(FOLDER), FOLDER]
import lines  # noqa: E402

import torch  # noqa: E402

TYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.uint8]
TYPES += [torch.bool, torch.complex64]


def values(*shape):
    generator = torch.Generator().manual_seed(5)
    return torch.rand(*shape, generator=generator) * 2 - 1


def close(device, host, tolerance=1e-5):
    torch.testing.assert_close(device.cpu(), host, rtol=tolerance, atol=tolerance)


def refused(run, *words):
    """The error of what must fail; it must hold one of the words."""
    try:
        run()
        torch.cuda.synchronize()
    except RuntimeError as error:
        assert any(word in str(error) for word in words), str(error)[:300]
        return str(error)
    raise AssertionError("it did not fail")


def script(text, **environment):
    """What a program of its own prints, on both its outputs."""
    environment = {**os.environ, **environment}
    run = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, (run.stdout + run.stderr)[-300:]
    return run.stdout + run.stderr


def test_device():
    assert torch.cuda.is_available() and torch.cuda.device_count() == 1 and torch.cuda.current_device() == 0
    assert torch.cuda.get_device_name(0)
    properties = torch.cuda.get_device_properties(0)
    assert properties.total_memory > 1 << 30 and properties.multi_processor_count >= 1
    assert (properties.major, properties.minor) == torch.cuda.get_device_capability(0)
    assert properties.name == torch.cuda.get_device_name(0) and properties.warp_size == 32
    assert len(str(properties.uuid)) == 36


def test_memory_info():
    free, total = torch.cuda.mem_get_info()
    block = torch.empty(64 << 20, dtype=torch.uint8, device="cuda")
    after, same = torch.cuda.mem_get_info()
    assert total == same and 0 < after <= free - block.numel()


def test_memory_statistics():
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    block = torch.empty(1 << 20, dtype=torch.uint8, device="cuda")
    assert torch.cuda.memory_allocated() - before == 1 << 20
    assert torch.cuda.memory_reserved() >= 1 << 20
    del block
    assert torch.cuda.memory_allocated() == before and torch.cuda.max_memory_allocated() >= before + (1 << 20)
    assert torch.cuda.memory_stats()["allocation.all.allocated"] >= 1
    assert "allocated" in torch.cuda.memory_summary().lower()


def test_memory_exhausted():
    try:
        torch.empty(1 << 44, dtype=torch.uint8, device="cuda")
    except torch.OutOfMemoryError as error:
        assert "out of memory" in str(error)
    else:
        raise AssertionError("16 TiB were allocated")
    close(torch.ones(3).cuda(), torch.ones(3))


ROUND_TRIP = "import torch; x = torch.arange(100000); y = x.cuda(); z = torch.empty_like(y); z.copy_(y); "
ROUND_TRIP += "assert torch.equal(z.cpu(), x); del y; torch.cuda.empty_cache(); "
ROUND_TRIP += "print(torch.cuda.memory.get_allocator_backend())"


def test_memory_expandable_segments():
    assert "native" in script(ROUND_TRIP, PYTORCH_ALLOC_CONF="expandable_segments:True")


def test_memory_asynchronous_allocator():
    assert "cudaMallocAsync" in script(ROUND_TRIP, PYTORCH_ALLOC_CONF="backend:cudaMallocAsync")


def test_memory_of_another_process():
    """A tensor that a child opens by its handle, writes to, and gives back."""
    out = script(
        "import torch, torch.multiprocessing as mp\n"
        "def child(there, back):\n"
        "    tensor = there.get()\n"
        "    tensor.copy_(torch.arange(50.) + tensor.cpu())\n"
        "    torch.cuda.synchronize()\n"
        "    del tensor\n"
        "    back.put('done')\n"
        "if __name__ == '__mp_main__': pass\n"
        "elif __name__ == '__main__':\n"
        "    import sys, types\n"
        "    context = mp.get_context('fork')\n"
        "    there, back, ready = context.Queue(), context.Queue(), context.Event()\n"
        "    process = context.Process(target=child, args=(there, back))\n"
        "    process.start()\n"
        "    tensor = torch.ones(50).cuda()\n"
        "    there.put(tensor)\n"
        "    back.get(timeout=100)\n"
        "    process.join()\n"
        "    assert torch.equal(tensor.cpu(), torch.arange(50.) + 1), tensor.cpu()\n"
        "    print('shared')\n"
    )
    assert "shared" in out


def test_copies():
    for kind in TYPES:
        host = (values(7, 300) * 50).to(kind)
        device = host.cuda()
        assert torch.equal(device.cpu(), host) and device.dtype == kind
        assert torch.equal(device.clone().cpu(), host)
        assert torch.equal(device[2:5].cpu(), host[2:5])
    assert torch.equal(torch.from_numpy(values(9).numpy()).to("cuda").cpu(), values(9))


def test_copies_of_many_sizes():
    for size in (1, 255, 4096, 8192, 8193, 65536, 1 << 20, (1 << 24) + 3):
        host = torch.arange(size, dtype=torch.int32)
        device = torch.empty(size, dtype=torch.int32, device="cuda")
        device.copy_(host)
        again = torch.empty_like(device).copy_(device)
        assert torch.equal(again.cpu(), host), size


def test_pinned_memory():
    host = values(100000).pin_memory()
    assert host.is_pinned() and not values(3).is_pinned()
    device = host.to("cuda", non_blocking=True)
    back = torch.empty(100000, pin_memory=True)
    back.copy_(device, non_blocking=True)
    torch.cuda.synchronize()
    assert torch.equal(back, host)


def test_pinned_by_registration():
    host = values(1 << 20)
    runtime = torch.cuda.cudart()
    torch.cuda.check_error(int(runtime.cudaHostRegister(host.data_ptr(), host.numel() * 4, 0)))
    assert host.is_pinned()
    assert torch.equal(host.to("cuda", non_blocking=True).cpu(), host)
    torch.cuda.check_error(int(runtime.cudaHostUnregister(host.data_ptr())))
    assert not host.is_pinned()


def test_loader():
    """Batches that a worker process makes and a thread pins."""
    data = torch.utils.data.TensorDataset(torch.arange(64.0))
    loader = torch.utils.data.DataLoader(data, batch_size=16, num_workers=1, pin_memory=True)
    got = [batch.to("cuda", non_blocking=True) for (batch,) in loader]
    assert torch.equal(torch.cat([batch.cpu() for batch in got]), torch.arange(64.0))


def test_streams():
    first, second = torch.cuda.Stream(), torch.cuda.Stream(priority=-1)
    host = torch.arange(1 << 20, dtype=torch.float32).pin_memory()
    with torch.cuda.stream(first):
        one = host.to("cuda", non_blocking=True)
        done = first.record_event()
    second.wait_event(done)
    with torch.cuda.stream(second):
        two = one.clone()
    torch.cuda.current_stream().wait_stream(second)
    assert torch.equal(two.cpu(), host)
    second.synchronize()
    assert first.query() and second.query() and second.priority == -1 and first != second


def test_events():
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    torch.empty(1 << 20, device="cuda").copy_(torch.ones(1 << 20))
    end.record()
    end.synchronize()
    assert end.query() and start.elapsed_time(end) >= 0


def test_threads():
    import threading

    errors = []

    def work(number):
        try:
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                for turn in range(50):
                    host = torch.full((1000,), number * 100 + turn)
                    assert torch.equal(host.cuda().cpu(), host)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not errors, errors[0]


def test_graph_of_copies():
    source, middle, target = (torch.empty(1000, device="cuda") for _ in range(3))
    source.copy_(torch.zeros(1000))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        middle.copy_(source)
        target.copy_(middle)
    for number in (1.0, 2.0):
        source.copy_(torch.full((1000,), number))
        graph.replay()
        close(target, torch.full((1000,), number))


def test_kernel_as_machine_code_alone():
    device = values(10).cuda()
    refused(lambda: device + 1, "no kernel image is available for execution on the device")
    close(device, values(10))  # and nothing else is lost


def test_kernel_as_machine_code_alone_is_named():
    """The log that PARAVANE_LOG asks of the shim, and what the CPU device writes where it is alone."""
    with tempfile.NamedTemporaryFile("r") as log:
        text = "import torch\ntry: torch.ones(3, device='cuda').sin()\nexcept RuntimeError as e: print('no kernel image' in str(e))"
        said = script(text, PARAVANE_LOG=log.name) + log.read()
    assert "True" in said and "machine code for sm_75, sm_80" in said, said[-300:]
    assert "at6native" in said, "no kernel is named"


def test_kernel_that_nvrtc_makes_as_machine_code():
    device = values(10).cuda()
    function = torch.cuda.jiterator._create_jit_fn("template <typename T> T f(T x) { return x * 2; }")
    refused(lambda: function(device), "no kernel image")


def test_library_as_machine_code_alone():
    """cuBLAS chooses among its kernels; few of them come as PTX too. An error or the product, nothing between."""
    host = values(8, 8)
    device = host.cuda()
    try:
        product = (device @ device).cpu()
    except RuntimeError as error:
        assert "CUBLAS_STATUS" in str(error), str(error)[:300]
    else:
        close(product, host @ host)


KERNEL = r"""
extern "C" __global__ void saxpy(double a, const float* x, float* y, int n)
{
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        y[i] = a * x[i] + y[i];
}
"""


def test_kernel_from_ptx():
    from cuda.bindings import nvrtc

    def must(result):
        assert result[0] == nvrtc.nvrtcResult.NVRTC_SUCCESS, result[0]
        return result[-1]

    program = must(nvrtc.nvrtcCreateProgram(KERNEL.encode(), b"saxpy.cu", 0, [], []))
    must(nvrtc.nvrtcCompileProgram(program, 1, [b"-arch=compute_80"]))
    text = bytearray(must(nvrtc.nvrtcGetPTXSize(program)))
    must(nvrtc.nvrtcGetPTX(program, text))
    kernel = torch.cuda._utils._cuda_load_module(bytes(text), ["saxpy"])["saxpy"]
    x, y = values(5000), values(5000) + 3
    device = y.cuda()
    kernel((10, 1, 1), (128, 1, 1), (2.5, x.cuda(), device, 5000))
    close(device, 2.5 * x + y)


def compiled(function, *arguments, tolerance=1e-5):
    host = function(*arguments)
    ours = torch.compile(function)(*(argument.cuda() for argument in arguments))
    close(ours, host, tolerance)


def test_compile_elementwise():
    compiled(lambda x, y: torch.sin(x) * y + torch.relu(x).exp() / (y.abs() + 1), values(3000), values(3000))


def test_compile_types():
    compiled(lambda x, y: (x.to(torch.float32) * 3).to(torch.bfloat16) + y.to(torch.bfloat16), values(500).half(), values(500), tolerance=2e-2)
    compiled(lambda x: (x << 3 ^ 0x55) // 7 + x % 5, torch.arange(-400, 400))


def test_compile_reductions():
    compiled(lambda x: x.sum(-1) + x.amax(-1) * x.var(-1), values(40, 700))
    compiled(lambda x: x.argmax(-1), values(40, 700))
    compiled(lambda x: x.mean(0), values(900, 33))


def test_compile_softmax():
    compiled(lambda x: torch.softmax(x, -1), values(16, 300))


def test_compile_normalisation():
    compiled(lambda x, w, b: torch.nn.functional.layer_norm(x, (256,), w, b), values(24, 256), values(256), values(256))


def test_compile_gather():
    compiled(lambda x, i: x[i].sum(1) + x.index_select(0, i[:, 0]), values(50, 20), torch.randint(0, 50, (30, 4)))


def test_compile_cumulative():
    compiled(lambda x: torch.cumsum(x, -1), values(8, 500), tolerance=1e-4)


def test_compile_sort():
    compiled(lambda x: torch.sort(x, -1).values, values(8, 100))


def test_compile_pooling():
    compiled(lambda x: torch.nn.functional.max_pool2d(x, 2) * torch.nn.functional.avg_pool2d(x, 2), values(2, 3, 16, 16))


def test_compile_training():
    """Logistic regression by AdamW, one compiled step, beside the same on the CPU: the losses agree."""

    def step(x, y, weights, first, second, number):
        def loss_of(weights):
            logits = (x[:, None, :] * weights[None, :, :]).sum(-1)
            return (logits.logsumexp(-1) - (logits * y).sum(-1)).mean()

        gradient, loss = torch.func.grad_and_value(loss_of)(weights)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient * gradient
        scaled = (first / (1 - 0.9**number)) / ((second / (1 - 0.999**number)).sqrt() + 1e-8)
        return weights - 0.05 * scaled - 0.05 * 0.01 * weights, first, second, loss

    def curve(place, step):
        x = values(256, 20)
        y = torch.nn.functional.one_hot(x.argmax(1) % 5, 5).float()
        state = [torch.zeros(5, 20) for _ in range(3)]
        x, y, *state = (tensor.to(place) for tensor in (x, y, *state))
        losses = []
        for number in range(1, 31):
            *state, loss = step(x, y, *state, torch.tensor(float(number)).to(place))
            losses.append(float(loss.cpu()))
        return losses

    # Folding runs PyTorch's own kernels at compile time.
    unfolded = torch.compile(step, options={"joint_graph_constant_folding": False})
    host, device = curve("cpu", step), curve("cuda", unfolded)
    assert host[-1] < host[0] * 0.8, host
    assert max(abs(a - b) for a, b in zip(host, device)) < 1e-4, (host[-1], device[-1])


def test_compile_in_a_graph():
    step = torch.compile(lambda x: (x * 3 + 1).relu().sum(-1))
    static = values(30, 50).cuda()
    step(static)  # compiled before the capture
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = step(static)
    for number in range(4):
        x = values(30, 50) + number
        static.copy_(x)
        graph.replay()
        close(out, (x * 3 + 1).relu().sum(-1), 1e-4)


def test_triton():
    """The kernels of triton_kernels.py: its compiler reads functions from files."""
    import triton_kernels

    triton_kernels.add()


def test_triton_matrix_products():
    import triton_kernels

    for kind in (torch.float16, torch.bfloat16):
        for stages in (1, 3):
            triton_kernels.product(kind, stages)


def test_triton_attention():
    import triton_kernels

    triton_kernels.attention()


def test_triton_atomics():
    import triton_kernels

    triton_kernels.histogram()


def cases():
    for name, check in lines.functions(sys.modules[__name__]):
        yield name, check


def is_lost():
    try:
        torch.cuda.synchronize()
        torch.ones(1).cuda()
    except RuntimeError:
        return True
    return False


if __name__ == "__main__":
    lines.main(__file__, cases, is_lost)
