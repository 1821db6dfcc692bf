#!/bin/sh
# Runs piglit's shader tests and says how each ended, a line a test: NAME RESULT. Many go in one process; where it dies, the test
# it was at has crashed and the next process goes on behind it. What a test that does not pass has to say follows it, behind a "#".
#
#   piglit.sh PIGLIT LIST [WRAPPER…]
#
# PIGLIT is the directory that Debian's package has, LIST names tests below its tests/spec, WRAPPER runs a program.
piglit=$1 list=$2
shift 2
work=$(mktemp -d) || exit
trap 'rm -r "$work"' EXIT
export PIGLIT_PLATFORM=surfaceless_egl PIGLIT_SOURCE_DIR="$piglit" LD_LIBRARY_PATH="$piglit/lib"
cp "$list" "$work/rest"
while [ -s "$work/rest" ]; do
    head -n 50 "$work/rest" > "$work/now"
    # Names have no blanks.
    timeout 120 "$@" "$piglit/bin/shader_runner" $(sed "s|.*|$piglit/tests/spec/&.shader_test|" "$work/now") -auto -fbo -report-subtests \
        > "$work/said" 2> /dev/null < /dev/null
    awk -v ended=$? '
        NR == FNR { name[FNR] = $0; all = FNR; next }
        /^PIGLIT TEST: / { at = $3; if (!(at in result)) result[at] = "" }
        /^(Probe|  Expected|  Observed)/ { if (lines[at]++ < 9) why[at] = why[at] "# " $0 "\n" }
        /^PIGLIT: .*"subtest"/ { line = $0; sub(/"}}.*/, "", line); sub(/.*"/, "", line); result[at] = line }
        /^PIGLIT: .*"result"/ { line = $0; sub(/" *}.*/, "", line); sub(/.*"/, "", line); whole = line }
        END {
            for (n = 1; n <= all; n++) {
                # A test that cannot run here at all ends the process with a result of its own.
                if (result[n] == "") result[n] = (whole != "" ? whole : ended == 124 ? "timeout" : "crash")
                print name[n], result[n]
                if (result[n] != "pass") printf "%s", why[n]
                if (n >= at) break
            }
        }' "$work/now" "$work/said" > "$work/results"
    cat "$work/results"
    done=$(grep -vc '^#' "$work/results")
    sed "1,${done}d" "$work/rest" > "$work/next" && mv "$work/next" "$work/rest"
done
