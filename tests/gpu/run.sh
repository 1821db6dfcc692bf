#!/bin/sh
# Paravane on a real GPU: the samples and the benchmark over the vhost-user transport, beside the same programs run
# natively on NVIDIA's libcuda. Runs prebuilt binaries; README.md says which. Needs no Rust, no network and no VM.
#
#   tests/gpu/run.sh [--quick] [--libcuda PATH]
#
# Exits 0 when everything ran and was right, 1 when something was not, 77 when there is no GPU, 2 when files are missing.
set -u
cd "$(dirname "$0")/../.." || exit 2
. tests/gpu/side.sh
samples=$PWD/target/paravane/samples
quick=
libcuda=
while [ $# -gt 0 ]; do
    case $1 in
        --quick) quick=--quick ;;
        --libcuda) libcuda=${2:?--libcuda takes a path}; shift ;;
        *) echo "unknown argument $1" >&2; exit 2 ;;
    esac
    shift
done

need "$bin/paravane-backend" "$bin/paravane-bench" "$bin/libcuda.so" "$samples/original.ppm"
for sample in vector_add matmul reduction parts image_filter; do
    need "$samples/$sample" "$samples/$sample.ptx"
done
find_libcuda
start_backend
mkdir "$work/native-out" "$work/shim-out"

# Milliseconds that a sample takes on one side; its output goes to $work/SIDE-SAMPLE.
run_sample() {
    side=$1 sample=$2
    started=$(date +%s%N)
    if [ "$sample" = image_filter ]; then
        set -- "$samples/original.ppm" "$work/$side-out/filtered.ppm"
    else
        set --
    fi
    LD_LIBRARY_PATH=$work/$side PARAVANE_SOCKET=$work/socket timeout 120 "$samples/$sample" "$@" >"$work/$side-$sample" 2>&1
    echo "ended with $?" >>"$work/$side-$sample"
    echo $((($(date +%s%N) - started) / 1000000))
}

failed=0
printf '\n%-14s %10s %12s %8s  %s\n' sample native_ms paravane_ms ratio ""
for sample in vector_add matmul reduction parts image_filter; do
    run_sample native "$sample" >"$work/ms" && native=$(cat "$work/ms")
    run_sample shim "$sample" >"$work/ms" && forwarded=$(cat "$work/ms")
    verdict=PASS
    for side in native shim; do
        if ! grep -q "^PASS $sample" "$work/$side-$sample" || ! grep -q '^ended with 0' "$work/$side-$sample"; then
            verdict="FAIL $side:"
            failed=1
        fi
    done
    ratio=$(awk -v f="$forwarded" -v n="$native" 'BEGIN { printf "%.2f", n > 0 ? f / n : 0 }')
    printf '%-14s %10s %12s %8s  %s\n' "$sample" "$native" "$forwarded" "$ratio" "$verdict"
    [ "$verdict" = PASS ] || sed 's/^/    /' "$work/native-$sample" "$work/shim-$sample"
done
if ! cmp -s "$work/native-out/filtered.ppm" "$work/shim-out/filtered.ppm"; then
    echo "FAIL: the filtered picture differs from the native one"
    failed=1
fi

printf '\nThe benchmark; "alone" is the same figure natively.\n'
"$bin/paravane-bench" $quick --libcuda "$libcuda" || failed=1
if [ -e target/paravane/gl/carry ]; then
    printf '\nOpenGL\n'
    sh tests/gpu/gl.sh || [ $? = 77 ] || failed=1
fi
if [ "$failed" = 0 ]; then echo "gpu: PASS"; else echo "gpu: FAIL"; sed 's/^/backend: /' "$work/backend.log" | tail -n 40; fi
exit "$failed"
