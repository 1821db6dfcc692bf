"""Kernels in Triton's language, each beside PyTorch on the CPU."""

import torch
import triton
import triton.language as tl


def values(*shape):
    generator = torch.Generator().manual_seed(6)
    return torch.rand(*shape, generator=generator) * 2 - 1


@triton.jit
def _add(x, y, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    tl.store(out + at, tl.load(x + at, mask=inside) + tl.load(y + at, mask=inside), mask=inside)


def add():
    x, y = values(5000), values(5000)
    out = torch.empty(5000, device="cuda")
    _add[(triton.cdiv(5000, 1024),)](x.cuda(), y.cuda(), out, 5000, BLOCK=1024)
    torch.testing.assert_close(out.cpu(), x + y)


@triton.jit
def _product(a, b, c, m, n, k, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    inner = tl.arange(0, BK)
    total = tl.zeros((BM, BN), tl.float32)
    for start in range(0, k, BK):
        left = tl.load(a + rows[:, None] * k + (start + inner)[None, :])
        right = tl.load(b + (start + inner)[:, None] * n + columns[None, :])
        total = tl.dot(left, right, total)
    tl.store(c + rows[:, None] * n + columns[None, :], total)


def product(kind, stages):
    """Tensor cores' instructions; with several stages, asynchronous copies too."""
    m, n, k = 64, 96, 128
    a, b = values(m, k).to(kind), values(k, n).to(kind)
    c = torch.empty(m, n, device="cuda")
    _product[(m // 32, n // 32)](a.cuda(), b.cuda(), c, m, n, k, BM=32, BN=32, BK=32, num_stages=stages)
    torch.testing.assert_close(c.cpu(), a.float() @ b.float(), rtol=1e-3, atol=1e-3)


@triton.jit
def _attention(q, k, v, out, length, scale, BQ: tl.constexpr, BK: tl.constexpr, WIDTH: tl.constexpr):
    rows = tl.program_id(0) * BQ + tl.arange(0, BQ)
    width = tl.arange(0, WIDTH)
    queries = tl.load(q + rows[:, None] * WIDTH + width[None, :])
    peak = tl.full((BQ,), float("-inf"), tl.float32)
    weight = tl.zeros((BQ,), tl.float32)
    total = tl.zeros((BQ, WIDTH), tl.float32)
    for start in range(0, length, BK):
        at = start + tl.arange(0, BK)
        keys = tl.load(k + at[:, None] * WIDTH + width[None, :])
        scores = tl.dot(queries, tl.trans(keys)) * scale
        highest = tl.maximum(peak, tl.max(scores, 1))
        shares = tl.exp(scores - highest[:, None])
        keep = tl.exp(peak - highest)
        weight = weight * keep + tl.sum(shares, 1)
        there = tl.load(v + at[:, None] * WIDTH + width[None, :])
        total = total * keep[:, None] + tl.dot(shares.to(tl.float16), there)
        peak = highest
    tl.store(out + rows[:, None] * WIDTH + width[None, :], total / weight[:, None])


def attention():
    length, width = 128, 32
    q, k, v = (values(length, width).half() for _ in range(3))
    out = torch.empty(length, width, device="cuda")
    _attention[(length // 32,)](q.cuda(), k.cuda(), v.cuda(), out, length, width**-0.5, BQ=32, BK=32, WIDTH=width)
    expected = torch.softmax(q.float() @ k.float().T * width**-0.5, -1) @ v.float()
    torch.testing.assert_close(out.cpu(), expected, rtol=1e-2, atol=2e-3)


@triton.jit
def _histogram(x, counts, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    tl.atomic_add(counts + tl.load(x + at, mask=inside, other=0), 1, mask=inside)


def histogram():
    x = torch.randint(0, 10, (3000,), generator=torch.Generator().manual_seed(6), dtype=torch.int32)
    counts = torch.zeros(10, dtype=torch.int32).cuda()
    _histogram[(triton.cdiv(3000, 256),)](x.cuda(), counts, 3000, BLOCK=256)
    assert torch.equal(counts.cpu(), torch.bincount(x, minlength=10).int())
