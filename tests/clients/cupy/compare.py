"""CuPy's public functions beside NumPy's: the same expression is computed by both, and values, types and shapes are
compared. Every universal function is tried with every type that NumPy has it for; the others by the expressions in
cases.txt; what has no counterpart in NumPy by the functions in own.py.

"""

import os
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(FOLDER), FOLDER]
import lines  # noqa: E402

TYPES = ["float32", "float64", "int32", "int64", "uint8", "bool", "complex64", "complex128", "float16"]


def inputs(xp):
    """Arrays that expressions name, the same for both libraries."""
    import numpy as np

    random = np.random.RandomState(7)
    arrays = {
        "A": random.uniform(0.1, 0.9, (4, 6)),
        "B": random.uniform(0.1, 0.9, (4, 6)),
        "F": random.uniform(-2, 2, (4, 6)).astype(np.float32),
        "V": random.uniform(-3, 3, 23),
        "W": random.uniform(-3, 3, 23),
        "S": np.sort(random.uniform(-3, 3, 23)),
        "Q": random.uniform(-1, 1, (5, 5)),
        "T": random.uniform(-1, 1, (2, 3, 4)),
        "I": random.randint(0, 9, (4, 6)),
        "J": random.randint(1, 6, 23).astype(np.int32),
        "U": random.randint(0, 200, 40).astype(np.uint8),
        "M": random.uniform(0, 1, (4, 6)) > 0.5,
        "N": np.array([1.0, np.nan, -2.0, np.inf, 0.0, -np.inf, 3.5]),
        "C": random.uniform(-1, 1, (3, 4)) + 1j * random.uniform(-1, 1, (3, 4)),
    }
    return {name: xp.asarray(array) for name, array in arrays.items()}


def same(theirs, ours, path="", operands=None):
    """Raises where a result differs by more than fits its type, or that of its operands."""
    import cupy
    import numpy as np

    if isinstance(theirs, (tuple, list)):
        assert len(theirs) == len(ours), f"{len(ours)} results{path}, NumPy has {len(theirs)}"
        for place, pair in enumerate(zip(theirs, ours)):
            same(*pair, path=f"{path}[{place}]")
        return
    ours = cupy.asnumpy(ours) if isinstance(ours, cupy.ndarray) else ours
    theirs, ours = np.asarray(theirs), np.asarray(ours)
    assert theirs.shape == ours.shape, f"shape {ours.shape}{path}, NumPy has {theirs.shape}"
    if theirs.dtype.kind in "OUS":
        assert (theirs == ours).all(), f"{ours}{path}, NumPy has {theirs}"
        return
    assert theirs.dtype.kind == ours.dtype.kind, f"type {ours.dtype}{path}, NumPy has {theirs.dtype}"
    size = min(theirs.dtype.itemsize, ours.dtype.itemsize)
    single = size <= (8 if theirs.dtype.kind == "c" else 4) or operands == "complex64"
    half = "float16" in (str(theirs.dtype), str(ours.dtype))
    tolerance = 2e-3 if half else 2e-5 if single and theirs.dtype.kind in "fc" else 1e-9
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def ufunc(name, xp, kind):
    """One universal function with operands of one type."""
    import numpy as np

    function = getattr(np, name)
    random = np.random.RandomState(3)
    operands = []
    for _ in range(function.nin):
        values = random.uniform(0.1, 0.9, 37)
        if kind in ("int32", "int64", "uint8"):
            values = random.randint(1, 8, 37)
        elif kind == "bool":
            values = values > 0.5
        elif kind.startswith("complex"):
            values = values + 0.3j
        if name == "arccosh":
            values = values + 1
        operands.append(xp.asarray(values.astype(kind)))
    if name == "ldexp":
        operands[1] = xp.arange(37, dtype="int32") % 5
    return getattr(xp, name)(*operands)


def check_ufunc(name):
    import cupy
    import numpy as np

    tried = 0
    for kind in TYPES:
        try:
            theirs = ufunc(name, np, kind)
        except TypeError:
            continue  # NumPy has it for other types
        try:
            ours = ufunc(name, cupy, kind)
        except TypeError as error:
            if kind in ("float16", "bool") or "supported" in str(error) or "Wrong type" in str(error):
                continue  # CuPy has it for fewer
            raise
        same(theirs, ours, path=f" for {kind}", operands=kind)
        tried += 1
    assert tried, "no type fits"


def cases():
    """Name, and what checks it, of every function."""
    import cupy
    import numpy as np
    import own

    def checked(check):
        def run():
            check()
            cupy.cuda.runtime.deviceSynchronize()

        return run

    for name in sorted(dir(np)):
        if isinstance(getattr(np, name), np.ufunc) and hasattr(cupy, name):
            yield f"ufunc.{name}", checked(lambda name=name: check_ufunc(name))

    def compare(expressions):
        for expression in expressions:
            results = [eval(expression, {"xp": xp, "np": np, **inputs(xp)}) for xp in (np, cupy)]
            same(*results, path=f" of {expression}")

    for line in open(os.path.join(FOLDER, "cases.txt")):
        if line.strip() and not line.startswith("#"):
            name, _, text = line.strip().partition(": ")
            yield name, checked(lambda text=text: compare(text.split("; ")))
    for name, check in lines.functions(own):
        yield f"own.{name}", checked(check)


def is_lost():
    import cupy

    try:
        cupy.cuda.runtime.deviceSynchronize()
        cupy.cuda.runtime.memGetInfo()
    except Exception:
        return True
    return False


if __name__ == "__main__":
    lines.main(__file__, cases, is_lost)
