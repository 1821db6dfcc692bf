#!/bin/sh
# PyTorch, CuPy and cuBLAS on a real GPU: each program natively and through shim, backend and worker. Results of the two must be
# equal within what each program states; the time ratio is printed. Runs what the machine's Python has installed; README.md says
# what to carry. Needs no Rust, no network and no VM.
#
#   tests/gpu/frameworks.sh [--python PYTHON] [--libcuda PATH] [--rounds N] [PROGRAM…]
#
# PROGRAM is one of torch, cupy, cublas; all by default. Exits 0 when everything that could run ran and was equal, 1 when
# something was not, 77 when there is no GPU or no framework, 2 when files are missing.
set -u
cd "$(dirname "$0")/../.." || exit 2
here=$PWD/tests/gpu
. "$here/side.sh"
python=python3
libcuda=
rounds=20
programs=
while [ $# -gt 0 ]; do
    case $1 in
        --python) python=${2:?--python takes a path}; shift ;;
        --libcuda) libcuda=${2:?--libcuda takes a path}; shift ;;
        --rounds) rounds=${2:?--rounds takes a number}; shift ;;
        torch | cupy | cublas) programs="$programs $1" ;;
        *) echo "unknown argument $1" >&2; exit 2 ;;
    esac
    shift
done
[ -n "$programs" ] || programs="torch cupy cublas"
need "$bin/paravane-backend" "$bin/libcuda.so" "$here/compare.py"
find_libcuda
start_backend

failed=0
ran=0
for program in $programs; do
    "$python" -c "import numpy" 2>/dev/null || { echo "SKIP $program: $python has no numpy"; continue; }
    skip=
    bad=
    for side in native shim; do
        LD_LIBRARY_PATH=$work/$side${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} PARAVANE_SOCKET=$work/socket PARAVANE_LOG=$work/shim.log \
            timeout 1800 "$python" "$here/${program}_cases.py" "$work/$side-$program.npz" "$rounds" >"$work/$side-$program.log" 2>&1
        status=$?
        [ "$status" != 77 ] || { skip=$(tail -n 1 "$work/$side-$program.log"); break; }
        [ "$status" = 0 ] || { echo "FAIL $program, $side: ended with $status"; tail -n 30 "$work/$side-$program.log" | sed 's/^/    /'; bad=1; }
    done
    [ -z "$skip" ] || { echo "SKIP $program: $skip"; continue; }
    ran=1
    [ -z "$bad" ] || { failed=1; continue; }
    echo
    "$python" "$here/compare.py" "$program" "$work/native-$program.npz" "$work/shim-$program.npz" || failed=1
done
if [ "$failed" != 0 ]; then
    echo "frameworks: FAIL"
    tail -n 40 "$work/backend.log" | sed 's/^/backend: /'
    [ ! -e "$work/shim.log" ] || tail -n 40 "$work/shim.log" | sed 's/^/shim: /'
    exit 1
fi
[ "$ran" = 1 ] || { echo "SKIP: none of$programs is installed for $python"; exit 77; }
echo "frameworks: PASS"
