"""cuBLAS by its own interface, as a program in C calls it: products of vectors and matrices, in one call and in batches."""

import ctypes
import ctypes.util
import glob
import os
import sys

import measure
import numpy as np


def library(name):
    """The library, of the system, of the CUDA toolkit or of a Python package."""
    folders = [os.path.join(path, "nvidia") for path in sys.path if os.path.isdir(os.path.join(path, "nvidia"))]
    found = [path for folder in folders for path in glob.glob(f"{folder}/*/lib/lib{name}.so.*")]
    found += glob.glob(f"/usr/local/cuda*/lib64/lib{name}.so.*")
    for path in [*sorted(found), ctypes.util.find_library(name)]:
        try:
            return ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL) if path else None
        except OSError:
            continue
    return None


runtime = library("cudart")
library("cublasLt")
cublas = library("cublas")
if runtime is None or cublas is None:
    measure.skip("libcudart or libcublas is not installed")


def must(status):
    assert status == 0, f"status {status}"


handle = ctypes.c_void_p()
must(cublas.cublasCreate_v2(ctypes.byref(handle)))


class Array:
    """Device memory of single-precision numbers, by columns."""

    def __init__(self, host):
        self.host = np.asfortranarray(host, dtype=np.float32)
        self.at = ctypes.c_void_p()
        must(runtime.cudaMalloc(ctypes.byref(self.at), ctypes.c_size_t(self.host.nbytes)))
        must(runtime.cudaMemcpy(self.at, self.host.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(self.host.nbytes), 1))

    def get(self):
        must(runtime.cudaMemcpy(self.host.ctypes.data_as(ctypes.c_void_p), self.at, ctypes.c_size_t(self.host.nbytes), 2))
        return self.host.copy()


def values(*shape, seed=1):
    return np.random.RandomState(seed).uniform(-1, 1, shape)


ONE, ZERO = ctypes.c_float(1), ctypes.c_float(0)


def scaled_sum():
    x, y = Array(values(1 << 16)), Array(values(1 << 16, seed=2))
    start = y.get()

    def run():
        must(runtime.cudaMemcpy(y.at, start.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(start.nbytes), 1))
        must(cublas.cublasSaxpy_v2(handle, 1 << 16, ctypes.byref(ONE), x.at, 1, y.at, 1))
        return y.get()[::64]

    return run


def dot():
    x, y = Array(values(1 << 16)), Array(values(1 << 16, seed=2))
    out = ctypes.c_float()

    def run():
        must(cublas.cublasSdot_v2(handle, 1 << 16, x.at, 1, y.at, 1, ctypes.byref(out)))
        return [out.value]

    return run


def product(size):
    a, b, c = (Array(values(size, size, seed=seed)) for seed in (1, 2, 3))

    def run():
        sizes = (size, size, size)
        must(cublas.cublasSgemm_v2(handle, 0, 0, *sizes, ctypes.byref(ONE), a.at, size, b.at, size, ctypes.byref(ZERO), c.at, size))
        return c.get()[::8, ::8]

    return run


def batch():
    size, count = 64, 50
    a, b, c = (Array(values(size, size * count, seed=seed)) for seed in (1, 2, 3))
    stride = ctypes.c_longlong(size * size)

    def run():
        must(
            cublas.cublasSgemmStridedBatched(
                handle, 0, 0, size, size, size, ctypes.byref(ONE), a.at, size, stride, b.at, size, stride,
                ctypes.byref(ZERO), c.at, size, stride, count,
            )
        )
        return c.get()[::8, ::8]

    return run


CASES = [
    ("axpy", scaled_sum, 1e-6),
    ("dot", dot, 1e-5),
    ("gemm, 256", lambda: product(256), 1e-6),
    ("gemm, 2048", lambda: product(2048), 1e-6),
    ("gemm, batches", batch, 1e-6),
]
measure.run([(f"cublas {name}", make(), tolerance) for name, make, tolerance in CASES], runtime.cudaDeviceSynchronize)
