"""Runs a client's checks and says how each ended, one line each: PASS name, FAIL name: why, or SKIP name: why. A kernel that
fails takes its context with it, so the checks run in a child that is started anew behind the one that failed.

A script calls `main(__file__, cases, is_lost)`; its first argument is a text that the names must hold.
"""

import faulthandler
import os
import subprocess
import sys
import unittest
import warnings

LOST = 75  # the child's exit status when its context is lost
LIMIT_S = 300  # a check that takes longer ends its process


def functions(module):
    """The cases of a module that has them as functions test_NAME, in the order in which they are written."""
    for name, function in list(vars(module).items()):
        if name.startswith("test_"):
            yield name[5:], function


def child(cases, is_lost, wanted, first):
    warnings.simplefilter("ignore")
    for place, (name, check) in enumerate(cases()):
        if place < first or wanted not in name:
            continue
        print(f"AT {place} {name}", flush=True)
        faulthandler.dump_traceback_later(LIMIT_S, exit=True)
        lost = False
        try:
            check()
            print(f"PASS {name}", flush=True)
        except unittest.SkipTest as reason:
            print(f"SKIP {name}: {reason}", flush=True)
        except Exception as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())[:240]
            print(f"FAIL {name}: {why}", flush=True)
            lost = is_lost()
        faulthandler.cancel_dump_traceback_later()
        if lost:
            os._exit(LOST)


def main(script, cases, is_lost):
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    if len(sys.argv) > 2:
        return child(cases, is_lost, wanted, int(sys.argv[2]))
    first = 0
    while True:
        process = subprocess.Popen([sys.executable, script, wanted, str(first)], stdout=subprocess.PIPE, text=True)
        place, name = None, None
        for line in process.stdout:
            if line.startswith("AT "):
                _, place, name = line.split()
            else:
                name = None if line.startswith(("PASS ", "FAIL ", "SKIP ")) else name
                print(line, end="", flush=True)
        status = process.wait()
        if status == 0:
            return
        if place is None:
            sys.exit(f"the child ended with {status} before the first check")
        if name:
            print(f"FAIL {name}: the process ended with {status}", flush=True)
        first = int(place) + 1
