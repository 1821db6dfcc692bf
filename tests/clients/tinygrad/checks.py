"""tinygrad on CUDA beside tinygrad on the CPU: single operations, and the training of a network of its MNIST example's size.
The pictures are made here, ten patterns of 28 by 28 with noise, because the data set itself is not on PyPI.
"""

import os
import subprocess
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(FOLDER), FOLDER]
import lines  # noqa: E402

import numpy as np  # noqa: E402
from tinygrad import Context, Device, Tensor, TinyJit, dtypes, nn  # noqa: E402

STEPS, BATCH = 40, 64


def both(compute, tolerance=1e-5):
    """What `compute` makes of a function from arrays to tensors, on both devices."""
    results = []
    for place in ("CPU", "CUDA"):
        made = compute(lambda array: Tensor(np.asarray(array), device=place))
        results.append([tensor.numpy() for tensor in (made if isinstance(made, tuple) else (made,))])
    for host, device in zip(*results):
        assert host.dtype == device.dtype and host.shape == device.shape
        np.testing.assert_allclose(device, host, rtol=tolerance, atol=tolerance)


def values(*shape, seed=1):
    return np.random.RandomState(seed).uniform(-1, 1, shape).astype(np.float32)


def test_device():
    device = Device["CUDA"]
    assert device.count() == 1 and device.arch.startswith("sm_")


def test_copies():
    for kind in ("float32", "float64", "float16", "int8", "uint8", "int64", "bool"):
        array = (values(7, 90) * 100).astype(kind)
        np.testing.assert_array_equal(Tensor(array, device="CUDA").numpy(), array)


def test_elementwise():
    both(lambda of: ((of(values(3000)).sin() * 2 + 1).exp().sqrt(), of(values(3000)).relu() - of(values(3000, seed=2)).sigmoid()))


def test_types():
    both(lambda of: (of(values(500)).cast(dtypes.half) * 3).cast(dtypes.float), 1e-3)
    both(lambda of: of(np.arange(-300, 300)) // 7 + (of(np.arange(600)) << 2) % 11)


def test_reductions():
    both(lambda of: (of(values(60, 700)).sum(1), of(values(60, 700)).max(0), of(values(60, 700)).argmax(1)), 1e-4)
    both(lambda of: of(values(200_000)).mean(), 1e-4)


def test_matrix_product():
    both(lambda of: of(values(90, 120)) @ of(values(120, 70, seed=2)), 1e-4)
    both(lambda of: (of(values(64, 64).astype(np.float16)) @ of(values(64, 64, seed=2).astype(np.float16))).float(), 1e-2)


def test_convolution():
    both(lambda of: of(values(2, 3, 20, 20)).conv2d(of(values(8, 3, 3, 3, seed=2)), padding=1, stride=2), 1e-4)


def test_movement():
    both(lambda of: of(values(4, 5, 6)).permute(2, 0, 1).pad(((1, 0), (0, 2), (1, 1))).flip(1).contiguous())
    both(lambda of: of(values(50, 6))[Tensor([3, 9, 9, 0], device=of(values(1)).device)])
    both(lambda of: of(values(8, 40)).sort(1)[0])


def test_gradient():
    def work(of):
        x, w = of(values(30, 20)), of(values(20, 10, seed=2))
        return tuple((x @ w).softmax(1).log().mean().gradient(x, w))

    both(work, 1e-4)


class Network:
    """Two convolutions and a layer, with weights that are the same wherever it lies."""

    def __init__(self, place):
        def weight(seed, *shape):
            bound = np.float32(1 / np.sqrt(np.prod(shape[1:])))
            return Tensor(values(*shape, seed=seed) * bound, device=place)

        self.first, self.second = weight(11, 8, 1, 5, 5), weight(12, 16, 8, 3, 3)
        self.last, self.bias = weight(13, 10, 16 * 5 * 5), Tensor.zeros(10, device=place).contiguous()

    def __call__(self, x):
        x = x.conv2d(self.first).relu().max_pool2d()
        x = x.conv2d(self.second).relu().max_pool2d()
        return x.flatten(1) @ self.last.T + self.bias


def pictures():
    random = np.random.RandomState(3)
    patterns = random.uniform(0, 1, (10, 1, 28, 28))
    labels = random.randint(0, 10, STEPS * BATCH)
    noisy = patterns[labels] * 0.5 + random.uniform(0, 1, (labels.size, 1, 28, 28)) * 0.5
    return noisy.astype(np.float32), labels.astype(np.int32)


def curve(place, optimiser):
    """Losses of a training run."""
    network = Network(place)
    step_of = optimiser(nn.state.get_parameters(network))

    @TinyJit
    def step(x, y):
        step_of.zero_grad()
        loss = network(x).sparse_categorical_crossentropy(y).backward()
        return loss.realize(*step_of.schedule_step())

    x, y = pictures()
    losses = []
    for number in range(STEPS):
        part = slice(number * BATCH, (number + 1) * BATCH)
        losses.append(step(Tensor(x[part], device=place), Tensor(y[part], device=place)).item())
    return np.array(losses)


def alike(optimiser, tolerance, share):
    """Both devices' losses fall to that share of the first, and on the same way."""
    with Context(DEV="CPU", TRAINING=1):
        host = curve("CPU", optimiser)
    with Context(DEV="CUDA", TRAINING=1):
        device = curve("CUDA", optimiser)
    assert host[-1] < host[0] * share, f"it does not learn: {host[0]} to {host[-1]}"
    np.testing.assert_allclose(device, host, rtol=tolerance, atol=tolerance)


def test_training_by_adam():
    """Captured as CUDA graphs from the second step on."""
    alike(lambda parameters: nn.optim.Adam(parameters, lr=0.01), 2e-3, 0.5)


def test_training_by_momentum():
    alike(lambda parameters: nn.optim.SGD(parameters, lr=0.05, momentum=0.9), 2e-3, 0.95)


def test_kernels_that_it_writes_as_ptx():
    """Its own generator of PTX instead of NVRTC."""
    text = f"import sys; sys.path[:0] = [{FOLDER!r}, {os.path.dirname(FOLDER)!r}]; import checks; "
    text += "checks.test_reductions(); checks.test_matrix_product(); checks.test_convolution(); print('done')"
    run = subprocess.run([sys.executable, "-c", text], env={**os.environ, "DEV": "CUDA:PTX;CPU"}, capture_output=True, text=True)
    assert run.returncode == 0 and "done" in run.stdout, (run.stdout + run.stderr)[-300:]


def cases():
    yield from lines.functions(sys.modules[__name__])


def is_lost():
    try:
        Tensor([1.0], device="CUDA").numpy()
    except RuntimeError:
        return True
    return False


if __name__ == "__main__":
    lines.main(__file__, cases, is_lost)
