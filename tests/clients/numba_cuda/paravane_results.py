"""What numba-cuda's tests expect of a conftest, which its wheel does not carry, and how each test ended: a line
"outcome TAB name TAB message" in the file that PARAVANE_RESULTS names, written as it ends, so that a crash loses none."""

import os

import numba.cuda
import numba.cuda.tests.support  # noqa: F401  imported before collection, which would import it a second time
import pytest

_RESULTS = open(os.environ["PARAVANE_RESULTS"], "a", buffering=1)


def pytest_addoption(parser):
    parser.addoption("--dump-failed-filechecks", action="store_true", default=False)


@pytest.fixture(scope="class")
def initialize_from_pytest_config(request):
    request.cls._dump_failed_filechecks = request.config.getoption("dump_failed_filechecks")


def _say(outcome, report, message=""):
    """A name is folder/module::class::test, wherever the package lies; an identifier alone may lack the module."""
    rest = report.nodeid.split("::")[1:]
    path = report.location[0] if report.location else report.nodeid
    name = "::".join(["/".join(path.removesuffix(".py").split("/")[-2:]), *rest])
    print(outcome, name, " ".join(str(message).split())[:300], sep="\t", file=_RESULTS)


def pytest_collectreport(report):
    if report.failed:
        _say("failed", report, report.longrepr)


def pytest_runtest_logreport(report):
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        _say("failed", report, getattr(crash, "message", report.longrepr))
    elif report.skipped and not hasattr(report, "wasxfail"):
        _say("skipped", report)
    elif report.when == "call":
        _say("passed", report)
