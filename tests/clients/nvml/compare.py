"""NVML through nvidia-ml-py beside CUDA's own figures, in one process: a line "PASS name", "FAIL name: why" for each.

Every getter of pynvml that takes nothing but a device is called too: it answers, or says with one of NVML's own errors that
it cannot. An argument names the checks to run, by a part of their names.
"""

import ctypes
import inspect
import os
import subprocess
import sys

import pynvml

cuda = ctypes.CDLL("libcuda.so.1")
ALLOCATED = 48 << 20
CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


def ask(name, *arguments):
    result = getattr(cuda, name)(*arguments)
    assert result == 0, f"{name} answers {result}"


def device():
    return pynvml.nvmlDeviceGetHandleByIndex(0)


@check
def count_before_cuda():
    """As PyTorch counts devices: without cuInit."""
    assert cuda.cuDeviceGetCount(ctypes.byref(ctypes.c_int())) == 3, "cuInit was called by NVML"
    assert pynvml.nvmlDeviceGetCount() >= 1


@check
def child_uses_cuda():
    """A child forked after NVML and before cuInit."""
    child = os.fork()
    if child == 0:
        os._exit(min(cuda.cuInit(0), 255))
    assert os.waitpid(child, 0)[1] == 0


@check
def devices():
    ask("cuInit", 0)
    number = ctypes.c_int()
    ask("cuDeviceGetCount", ctypes.byref(number))
    assert pynvml.nvmlDeviceGetCount() == number.value
    assert pynvml.nvmlDeviceGetIndex(device()) == 0
    assert pynvml.nvmlDeviceGetMinorNumber(device()) == 0


@check
def name():
    text = ctypes.create_string_buffer(256)
    ask("cuDeviceGetName", text, 256, 0)
    assert pynvml.nvmlDeviceGetName(device()) == text.value.decode()


@check
def uuid():
    raw = (ctypes.c_ubyte * 16)()
    ask("cuDeviceGetUuid_v2", raw, 0)
    text = bytes(raw).hex()
    uuid = pynvml.nvmlDeviceGetUUID(device())
    assert uuid.startswith("GPU-") and uuid[4:].replace("-", "") == text, uuid
    assert pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByUUID(uuid)) == 0


@check
def pci():
    text = ctypes.create_string_buffer(32)
    ask("cuDeviceGetPCIBusId", text, 32, 0)
    info = pynvml.nvmlDeviceGetPciInfo(device())
    assert info.busIdLegacy.lower() == text.value.decode().lower(), info.busIdLegacy
    assert info.busId.lower().endswith(text.value.decode().lower()), info.busId
    assert pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByPciBusId(info.busId)) == 0


@check
def capability():
    numbers = [ctypes.c_int() for _ in range(2)]
    ask("cuDeviceComputeCapability", *(ctypes.byref(number) for number in numbers), 0)
    assert pynvml.nvmlDeviceGetCudaComputeCapability(device()) == tuple(number.value for number in numbers)


@check
def versions():
    version = ctypes.c_int()
    ask("cuDriverGetVersion", ctypes.byref(version))
    assert pynvml.nvmlSystemGetCudaDriverVersion() == version.value
    assert pynvml.nvmlSystemGetCudaDriverVersion_v2() == version.value
    driver = pynvml.nvmlSystemGetDriverVersion()
    assert driver and pynvml.nvmlSystemGetNVMLVersion() == f"{version.value // 1000}.{driver}"


def memory():
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    ask("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    first = pynvml.nvmlDeviceGetMemoryInfo(device())
    second = pynvml.nvmlDeviceGetMemoryInfo(device(), version=pynvml.nvmlMemory_v2)
    assert (first.free, first.total) == (free.value, total.value), (first.free, free.value, first.total, total.value)
    assert (second.free, second.total, second.used) == (first.free, first.total, first.used)
    return first


@check
def memory_and_processes():
    assert pynvml.nvmlDeviceGetComputeRunningProcesses(device()) == [], "a process without a context"
    context = ctypes.c_void_p()
    ask("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
    ask("cuCtxSetCurrent", context)
    before = memory()
    held = ctypes.c_uint64()
    ask("cuMemAlloc_v2", ctypes.byref(held), ctypes.c_size_t(ALLOCATED))
    during = memory()
    assert during.used - before.used == ALLOCATED, (during.used, before.used)
    [process] = pynvml.nvmlDeviceGetComputeRunningProcesses(device())
    assert (process.pid, process.usedGpuMemory) == (os.getpid(), during.used), process
    assert "python" in pynvml.nvmlSystemGetProcessName(process.pid)
    ask("cuMemFree_v2", held)
    assert memory().used == before.used


@check
def another_process():
    """A process of this machine is in the list while it has a context."""
    program = (
        "import ctypes, sys; c = ctypes.CDLL('libcuda.so.1'); p = ctypes.c_void_p(); "
        "c.cuInit(0) or c.cuDevicePrimaryCtxRetain(ctypes.byref(p), 0) or print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"ready\n"
        pids = {process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(device())}
        assert other.pid in pids, pids
        other.stdin.close()


@check
def utilization():
    rates = pynvml.nvmlDeviceGetUtilizationRates(device())
    assert 0 <= rates.gpu <= 100 and 0 <= rates.memory <= 100


@check
def every_getter():
    """No getter crashes or answers something that is no error of NVML's."""
    answered = []
    for name, function in sorted(vars(pynvml).items()):
        if not name.startswith(("nvmlDeviceGet", "nvmlSystemGet")):
            continue
        required = [
            parameter.name
            for parameter in inspect.signature(function).parameters.values()
            if parameter.default is parameter.empty
        ]
        if required not in ([], ["handle"], ["device"]):
            continue
        try:
            function(*([device()] * len(required)))
            answered.append(name)
        except pynvml.NVMLError:
            pass
    assert len(answered) >= 20, answered


@check
def shutdown():
    pynvml.nvmlShutdown()
    try:
        pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError_Uninitialized:
        return
    raise AssertionError("it answers after nvmlShutdown")


def main():
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    pynvml.nvmlInit()
    for name, function in CHECKS.items():
        if wanted not in name:
            continue
        try:
            function()
            print(f"PASS {name}", flush=True)
        except Exception as error:
            print(f"FAIL {name}: {type(error).__name__} {error}".replace("\n", " "), flush=True)


main()
