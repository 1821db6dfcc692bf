"""Two runs of one program, the native one and the one through the shim: a line for each case, and 1 when a result differs by
more than the program allows."""

import sys

import numpy as np

program, native, shim = sys.argv[1:]
native, shim = np.load(native), np.load(shim)
names = [key.removesuffix("/seconds") for key in native.files if key.endswith("/seconds")]
failed = set(native.files) != set(shim.files)
if failed:
    print(f"FAIL {program}: the two runs have different cases")
print(f"{program:<34} {'native_ms':>10} {'paravane_ms':>12} {'ratio':>7} {'difference':>11}")
for name in names:
    if f"{name}/result" not in shim.files:
        continue
    one, other = native[f"{name}/result"], shim[f"{name}/result"]
    tolerance = float(native[f"{name}/tolerance"])
    if one.shape != other.shape:
        difference = float("inf")
    elif one.size == 0:
        difference = 0.0
    else:
        # Relative to the largest value, so that sums near zero count as what they are made of.
        difference = float(np.max(np.abs(one - other))) / max(float(np.max(np.abs(one))), 1e-30)
    fast, slow = float(native[f"{name}/seconds"]), float(shim[f"{name}/seconds"])
    is_equal = difference <= tolerance  # not for NaN
    failed |= not is_equal
    verdict = "PASS" if is_equal else f"FAIL: more than {tolerance:g}"
    print(f"{name:<34} {fast * 1e3:>10.3f} {slow * 1e3:>12.3f} {slow / max(fast, 1e-9):>7.2f} {difference:>11.2g}  {verdict}")
sys.exit(1 if failed else 0)
