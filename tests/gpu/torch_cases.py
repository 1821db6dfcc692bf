"""PyTorch: tensor operations, products, convolution, attention, a training loop by AdamW, CUDA graphs."""

import measure

try:
    import torch
except ImportError:
    measure.skip("torch is not installed")

if not torch.cuda.is_available():
    measure.skip("torch sees no device")
F = torch.nn.functional
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.backends.cudnn.benchmark = False


def values(*shape, seed=1):
    """Made on the host, so that both sides begin with the same."""
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1).cuda()


def numbers(tensor):
    return tensor.detach().float().cpu().numpy()


def elementwise():
    x, y = values(1 << 20), values(1 << 20, seed=2)
    return lambda: numbers((torch.sin(x) * y + F.gelu(x)).exp().sum().reshape(1))


def small_operations():
    """A thousand short kernels: what a launch costs shows."""
    x = values(64, 64)

    def run():
        y = x
        for _ in range(500):
            y = torch.tanh(y * 0.9 + 0.1)
        return numbers(y)

    return run


def sorting():
    x = values(1 << 18)
    return lambda: numbers(torch.sort(x).values[::1000])


def product(kind):
    a, b = values(1024, 1024).to(kind), values(1024, 1024, seed=2).to(kind)
    return lambda: numbers((a @ b)[::16, ::16])


def convolution():
    x, w = values(16, 32, 56, 56), values(64, 32, 3, 3, seed=2)
    return lambda: numbers(F.conv2d(x, w, padding=1)[::4, ::8, ::8, ::8])


def attention():
    q, k, v = (values(4, 8, 512, 64, seed=seed).half() for seed in (1, 2, 3))
    return lambda: numbers(F.scaled_dot_product_attention(q, k, v, is_causal=True)[:, :, ::32])


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(1, 16, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(16)
        self.hidden = torch.nn.Linear(16 * 14 * 14, 128)
        self.last = torch.nn.Linear(128, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.first(x))), 2)
        return self.last(F.relu(self.hidden(x.flatten(1))))


def training():
    """The losses of twenty steps of AdamW."""

    def run():
        torch.manual_seed(5)
        network = Network().cuda()
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
        x, losses = values(256, 1, 28, 28), []
        y = torch.randint(0, 10, (256,), generator=torch.Generator().manual_seed(6)).cuda()
        for _ in range(20):
            optimiser.zero_grad(set_to_none=True)
            loss = F.cross_entropy(network(x), y)
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        return numbers(torch.stack(losses))

    return run


def graph():
    """A captured forward pass, replayed with other inputs."""
    torch.manual_seed(5)
    network = Network().cuda().eval()
    static = values(64, 1, 28, 28)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side), torch.no_grad():
        for _ in range(3):
            network(static)
    torch.cuda.current_stream().wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured), torch.no_grad():
        out = network(static)
    inputs = [values(64, 1, 28, 28, seed=seed) for seed in range(5)]

    def run():
        total = torch.zeros_like(out)
        for one in inputs:
            static.copy_(one)
            captured.replay()
            total += out
        return numbers(total)

    return run


def copies():
    host = torch.rand(1 << 22, generator=torch.Generator().manual_seed(1)).pin_memory()
    back = torch.empty(1 << 22, pin_memory=True)

    def run():
        back.copy_(host.to("cuda", non_blocking=True) * 2, non_blocking=True)
        torch.cuda.synchronize()
        return back[::4096].numpy()

    return run


def random():
    def run():
        torch.cuda.manual_seed(9)
        return numbers(torch.randn(10000, device="cuda")[::10])

    return run


# Both sides run the same kernels on the same device: what differs is the order of atomic sums, where there are any.
CASES = [
    ("elementwise", elementwise, 1e-6),
    ("small operations", small_operations, 1e-6),
    ("sort", sorting, 0),
    ("random numbers", random, 0),
    ("copies, pinned", copies, 0),
    ("matrix product, float32", lambda: product(torch.float32), 1e-6),
    ("matrix product, float16", lambda: product(torch.float16), 1e-3),
    ("matrix product, bfloat16", lambda: product(torch.bfloat16), 1e-2),
    ("convolution", convolution, 1e-5),
    ("attention", attention, 1e-3),
    ("training by AdamW, losses", training, 1e-3),
    ("CUDA graph", graph, 1e-4),
]
measure.run([(f"torch {name}", make(), tolerance) for name, make, tolerance in CASES], torch.cuda.synchronize)
