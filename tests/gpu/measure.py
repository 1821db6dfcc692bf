"""What the programs here share: each case is computed, its result kept, and the median of its rounds measured."""

import statistics
import sys
import time

import numpy as np


def skip(why):
    print(why)
    sys.exit(77)


def run(cases, synchronise):
    """Runs `cases`, of name, function and tolerance, and writes what they came to where the first argument says."""
    path, rounds = sys.argv[1], int(sys.argv[2])
    kept = {}
    for name, function, tolerance in cases:
        result = function()  # compiles and warms
        synchronise()
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            result = function()
            synchronise()
            times.append(time.perf_counter() - start)
        kept[f"{name}/result"] = np.asarray(result, dtype=np.float64)
        kept[f"{name}/seconds"] = np.array(statistics.median(times))
        kept[f"{name}/tolerance"] = np.array(tolerance)
        print(f"{name}: {statistics.median(times) * 1e3:.3f} ms", flush=True)
    np.savez(path, **kept)
