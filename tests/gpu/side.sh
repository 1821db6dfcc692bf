# What the scripts here share: the host's libcuda, a backend on it, and the two sides' folders. Sourced from the repository's root.
# shellcheck shell=sh
bin=$PWD/target/release
work=$(mktemp -d)
backend=
end() {
    [ -z "$backend" ] || { kill "$backend" 2>/dev/null; wait "$backend" 2>/dev/null; }
    rm -rf "$work"
}
trap end EXIT

# Ends with 2 unless all of these files are there.
need() {
    missing=
    for file in "$@"; do
        [ -e "$file" ] || missing="$missing $file"
    done
    [ -z "$missing" ] || { echo "not here:$missing; tests/gpu/README.md says how to build and what to carry" >&2; exit 2; }
}

# Sets libcuda to the real path of the driver's library, unless it is set; ends with 77 where there is none.
find_libcuda() {
    if [ -z "$libcuda" ]; then
        [ -e /dev/nvidiactl ] || { echo "SKIP: no NVIDIA GPU here (/dev/nvidiactl is not there)"; exit 77; }
        for dir in /usr/lib/x86_64-linux-gnu /usr/lib64 /usr/local/nvidia/lib64 /usr/lib /usr/local/cuda/compat; do
            [ -e "$dir/libcuda.so.1" ] && { libcuda=$dir/libcuda.so.1; break; }
        done
        [ -n "$libcuda" ] || libcuda=$(ldconfig -p 2>/dev/null | sed -n 's/.*libcuda\.so\.1 (.*x86-64.*) => //p' | head -n 1)
        [ -n "$libcuda" ] || { echo "SKIP: a GPU, but no libcuda.so.1 of NVIDIA's driver"; exit 77; }
    fi
    libcuda=$(readlink -f "$libcuda")
}

# Starts a backend on $libcuda, with $backend_options, at $work/socket; $work/native and $work/shim hold a libcuda.so.1 each.
start_backend() {
    mkdir "$work/native" "$work/shim"
    ln -s "$libcuda" "$work/native/libcuda.so.1"
    ln -s "$bin/libcuda.so" "$work/shim/libcuda.so.1"
    echo "libcuda: $libcuda"
    command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
    "$bin/paravane-backend" --socket-path "$work/socket" --libcuda "$libcuda" ${backend_options-} >"$work/backend.log" 2>&1 &
    backend=$!
    waited=0
    while [ ! -S "$work/socket" ]; do
        waited=$((waited + 1))
        if [ "$waited" -gt 300 ] || ! kill -0 "$backend" 2>/dev/null; then
            echo "FAIL: paravane-backend does not listen:"; cat "$work/backend.log"; exit 1
        fi
        sleep 0.1
    done
}
