#!/bin/sh
# Paravane's OpenGL on a real GPU: a recorded virgl stream (scene.virgl) over the vhost-user transport to paravane-backend and
# paravane-renderer, headless, on the machine's own EGL; the picture is compared with the recorded one. README.md says what to
# build and carry. Needs no Rust, no network and no VM.
#
#   tests/gpu/gl.sh [--mesa ROOT]
#
# --mesa draws on the Mesa of a tree of Debian 13 instead, for machines without a GPU.
# Exits 0 when it was right, 1 when not, 77 when there is no GPU, 2 when files are missing.
set -u
cd "$(dirname "$0")/../.." || exit 2
libcuda=
. tests/gpu/side.sh
renderer=$PWD/target/paravane/gl/carry/paravane-renderer
need "$bin/paravane-backend" "$bin/replay" "$bin/libparavane_cpu.so" "$renderer" tests/gpu/scene.virgl
libraries=
case ${1-} in
    --mesa)
        root=${2:?--mesa takes a path}/usr
        libraries=$root/lib/x86_64-linux-gnu
        export LIBGL_DRIVERS_PATH="$libraries/dri" __EGL_VENDOR_LIBRARY_DIRS="$root/share/glvnd/egl_vendor.d" ;;
    '')
        vendor=
        for dir in /usr/share /etc; do
            file=$dir/glvnd/egl_vendor.d/10_nvidia.json
            [ -e "$file" ] && vendor=$file
        done
        [ -e /dev/nvidiactl ] && [ -n "$vendor" ] || { echo "SKIP: no NVIDIA GPU here with NVIDIA's EGL (10_nvidia.json)"; exit 77; }
        # Mesa's EGL would draw in software where it is asked first.
        export __EGL_VENDOR_LIBRARY_FILENAMES="$vendor" ;;
    *) echo "unknown argument $1" >&2; exit 2 ;;
esac
draws=$work/paravane-renderer
printf '#!/bin/sh\nPARAVANE_RENDERER_LIBRARIES="%s" exec "%s" "$@"\n' "$libraries" "$renderer" >"$draws"
chmod +x "$draws"

if ! "$draws" probe >"$work/probe" 2>"$work/probe.log"; then
    echo "FAIL: the renderer finds no OpenGL:"; cat "$work/probe.log"; exit 1
fi
# virgl's capset names the host's renderer among its numbers.
echo "drawn by: $(tr -c '0-9' '\n' <"$work/probe" | awk '
    $1 >= 32 && $1 < 127 { said = said sprintf("%c", $1); next }
    $1 != "" { if (length(said) > 7) print said; said = "" }' | head -n 1)"

# CUDA takes no part.
libcuda=$bin/libparavane_cpu.so
backend_options="--renderer $draws"
start_backend
picture=$PWD/target/paravane/gl/replayed.ppm
"$bin/replay" "$work/socket" tests/gpu/scene.virgl "$picture" 160 120 && { echo "picture: $picture"; echo "gl: PASS"; exit 0; }
echo "gl: FAIL"
sed 's/^/backend: /' "$work/backend.log" | tail -n 40
exit 1
