"""cuBLAS on the CPU device, through CuPy, beside NumPy. The device calls itself newer than any that cuBLAS knows, so that cuBLAS
launches its PTX.
"""

import os
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(FOLDER), FOLDER]
import lines  # noqa: E402
from compare import is_lost  # noqa: E402

import cupy  # noqa: E402
import numpy as np  # noqa: E402

TOLERANCE = {"float16": 2e-2, "float32": 1e-4, "complex64": 1e-4, "float64": 1e-11, "complex128": 1e-11}


def values(kind, *shape, seed=1):
    random = np.random.RandomState(seed)
    real = random.uniform(-1, 1, shape)
    return (real + 1j * random.uniform(-1, 1, shape) if kind.startswith("complex") else real).astype(kind)


def both(function, kind, *shapes):
    operands = [values(kind, *shape, seed=seed) for seed, shape in enumerate(shapes)]
    ours = cupy.asnumpy(function(cupy, *(cupy.asarray(operand) for operand in operands)))
    wide = "complex128" if kind.startswith("complex") else "float64"
    theirs = np.asarray(function(np, *(operand.astype(wide) for operand in operands)))
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    np.testing.assert_allclose(ours.astype(wide), theirs, rtol=TOLERANCE[kind], atol=TOLERANCE[kind])


def product(kind, m, n, k):
    both(lambda xp, a, b: xp.matmul(a, b), kind, (m, k), (k, n))


def cases():
    for kind in TOLERANCE:
        for sizes in ((4, 4, 4), (17, 33, 5), (64, 64, 64), (1, 40, 70), (130, 90, 50)):
            yield f"product.{kind}.{'x'.join(map(str, sizes))}", lambda kind=kind, sizes=sizes: product(kind, *sizes)
        if kind == "float16":
            continue
        yield f"batch.{kind}", lambda kind=kind: both(lambda xp, a, b: xp.matmul(a, b), kind, (5, 12, 8), (5, 8, 9))
        yield f"transposed.{kind}", lambda kind=kind: both(lambda xp, a, b: xp.dot(a.T, b.T), kind, (30, 20), (25, 30))
        yield f"vector.{kind}", lambda kind=kind: both(lambda xp, a, b: xp.dot(a, b), kind, (40, 30), (30,))
        yield f"dot.{kind}", lambda kind=kind: both(lambda xp, a, b: xp.vdot(a, b), kind, (3000,), (3000,))
    for kind in ("float32", "float64"):
        yield f"tensordot.{kind}", lambda kind=kind: both(lambda xp, a, b: xp.tensordot(a, b, 2), kind, (6, 7, 8), (7, 8, 9))
        yield f"einsum.{kind}", lambda kind=kind: both(lambda xp, a, b: xp.einsum("ij,kj->ik", a, b), kind, (20, 30), (10, 30))
        yield f"cov.{kind}", lambda kind=kind: both(lambda xp, a: xp.cov(a), kind, (6, 50))


if __name__ == "__main__":
    lines.main(__file__, cases, is_lost)
