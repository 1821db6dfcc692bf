//! A program that uses NVML: `nvml-program SCENARIO FOLDER`, where the folder
//! holds the guest's libraries. Prints what the scenario found, a line each.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program fails by panicking")]
#![allow(unsafe_code, reason = "fork")]

use std::ffi::{CStr, CString, c_char};
use std::path::Path;

use paravane_protocol::cuda_types::*;
use paravane_protocol::nvml_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::nvml::Nvml;
use paravane_tests::{must, nvml, result_of, value_of};
use zerocopy::FromZeros;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, scenario, folder] = arguments.as_slice() else {
        panic!("usage: nvml-program count|look|cuda|fork|early|absent|hardware|busy FOLDER");
    };
    let folder = Path::new(folder);
    let nvml = Nvml::load(&folder.join("libnvidia-ml.so.1"));
    match scenario.as_str() {
        "count" => count(&nvml),
        "early" => early(&nvml),
        "absent" => absent(&nvml),
        "fork" => fork(&nvml, folder),
        "cuda" => beside_cuda(&device(&nvml), &Cuda::load(&folder.join("libcuda.so.1"))),
        "look" => look(&device(&nvml)),
        "busy" => busy(&device(&nvml)),
        "hardware" => hardware(&device(&nvml)),
        other => panic!("no scenario {other}"),
    }
}

/// How many devices there are; without NVML, its error.
fn count(nvml: &Nvml) {
    let (error, mut count) = (nvml!(nvml.nvmlInit_v2()), 0);
    if error != NVML_SUCCESS {
        return println!("error {}", error.0);
    }
    assert_eq!(nvml!(nvml.nvmlDeviceGetCount_v2(&raw mut count)), NVML_SUCCESS);
    println!("{count}");
}

/// NVML and its first device.
struct Device<'a> {
    nvml: &'a Nvml,
    handle: nvmlDevice_t,
}

fn device(nvml: &Nvml) -> Device<'_> {
    assert_eq!(nvml!(nvml.nvmlInit_v2()), NVML_SUCCESS);
    let mut handle = nvmlDevice_t(0);
    assert_eq!(nvml!(nvml.nvmlDeviceGetHandleByIndex_v2(0, &raw mut handle)), NVML_SUCCESS);
    Device { nvml, handle }
}

/// The text that a call writes.
fn text(call: impl FnOnce(*mut c_char, u32) -> nvmlReturn_t) -> String {
    let mut buffer = [0_u8; 96];
    assert_eq!(call(buffer.as_mut_ptr().cast(), 96), NVML_SUCCESS);
    CStr::from_bytes_until_nul(&buffer).unwrap().to_str().unwrap().to_owned()
}

fn memory_once(device: &Device) -> nvmlMemory_t {
    let Device { nvml, handle } = *device;
    let mut memory = nvmlMemory_t::new_zeroed();
    assert_eq!(nvml!(nvml.nvmlDeviceGetMemoryInfo(handle, &raw mut memory)), NVML_SUCCESS);
    memory
}

/// By both of NVML's calls, which must tell the same while nothing changes.
fn memory(device: &Device) -> nvmlMemory_t {
    let Device { nvml, handle } = *device;
    let memory = memory_once(device);
    let mut second = nvmlMemory_v2_t::new_zeroed();
    let unversioned = nvml!(nvml.nvmlDeviceGetMemoryInfo_v2(handle, &raw mut second));
    assert_eq!(unversioned, NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    second.version = struct_version(40, 2);
    assert_eq!(nvml!(nvml.nvmlDeviceGetMemoryInfo_v2(handle, &raw mut second)), NVML_SUCCESS);
    if memory_once(device).used != memory.used {
        return self::memory(device);
    }
    assert_eq!((second.total, second.used, second.free), (memory.total, memory.used, memory.free));
    memory
}

/// As the newest of its calls tells them.
fn listed(device: &Device) -> Vec<nvmlProcessInfo_t> {
    let Device { nvml, handle } = *device;
    let mut list = [nvmlProcessInfo_t::new_zeroed(); 16];
    let mut count = 16;
    let told = nvml!(nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle, &raw mut count, list.as_mut_ptr()));
    assert_eq!(told, NVML_SUCCESS);
    list.into_iter().take(count as usize).collect()
}

/// The processes, by two of NVML's calls that must tell the same, unless one
/// comes or goes meanwhile: then they are asked again.
fn processes(device: &Device) -> Vec<nvmlProcessInfo_t> {
    let pids = |list: &[nvmlProcessInfo_t]| list.iter().map(|process| process.pid).collect::<Vec<_>>();
    let Device { nvml, handle } = *device;
    loop {
        let list = listed(device);
        let count = u32::try_from(list.len()).unwrap();
        let (mut room, mut first) = (0, [nvmlProcessInfo_v1_t::new_zeroed(); 16]);
        let short = nvml!(nvml.nvmlDeviceGetComputeRunningProcesses(handle, &raw mut room, first.as_mut_ptr()));
        let needed = room;
        let fits = nvml!(nvml.nvmlDeviceGetComputeRunningProcesses(handle, &raw mut room, first.as_mut_ptr()));
        let mut none = 16;
        let mut other = [nvmlProcessInfo_t::new_zeroed(); 16];
        let graphics =
            nvml!(nvml.nvmlDeviceGetGraphicsRunningProcesses_v3(handle, &raw mut none, other.as_mut_ptr()));
        if pids(&listed(device)) != pids(&list) {
            continue;
        }
        assert_eq!((needed, fits), (count, NVML_SUCCESS));
        if count > 0 {
            assert_eq!((short, first[0].pid), (NVML_ERROR_INSUFFICIENT_SIZE, list[0].pid));
        } else {
            assert_eq!((short, graphics, none), (NVML_SUCCESS, NVML_SUCCESS, 0));
        }
        return list;
    }
}

/// Used bytes, then `pid:bytes` of each process, by pid.
fn look(device: &Device) {
    let mut processes = processes(device);
    processes.sort_by_key(|process| process.pid);
    let each: Vec<String> =
        processes.iter().map(|process| format!("{}:{}", process.pid, process.usedGpuMemory)).collect();
    println!("{} {}", memory(device).used, each.join(" "));
}

/// Utilisation now, and the busiest process's pid and share.
fn busy(device: &Device) {
    let Device { nvml, handle } = *device;
    let mut rates = nvmlUtilization_t::new_zeroed();
    assert_eq!(nvml!(nvml.nvmlDeviceGetUtilizationRates(handle, &raw mut rates)), NVML_SUCCESS);
    let mut samples = [nvmlProcessUtilizationSample_t::new_zeroed(); 16];
    let mut count = 16;
    let told = nvml!(nvml.nvmlDeviceGetProcessUtilization(handle, samples.as_mut_ptr(), &raw mut count, 0));
    let seen = samples.iter().take(count as usize);
    match (told, seen.max_by_key(|sample| sample.smUtil)) {
        (NVML_SUCCESS, Some(most)) => println!("{} {} {}", rates.gpu, most.pid, most.smUtil),
        (NVML_ERROR_NOT_FOUND, _) => println!("{} nobody", rates.gpu),
        (error, _) => panic!("{error:?}"),
    }
}

/// Everything that NVML and CUDA both tell.
fn beside_cuda(device: &Device, cuda: &Cuda) {
    let Device { nvml, handle } = *device;
    let mut any = 0;
    assert_eq!(result_of!(cuda.cuDeviceGetCount(&raw mut any)), CUDA_ERROR_NOT_INITIALIZED);
    must!(cuda.cuInit(0));
    let context = value_of!(cuda.cuDevicePrimaryCtxRetain(CUcontext(0), CUdevice(0)));
    must!(cuda.cuCtxSetCurrent(context));
    let held = value_of!(cuda.cuMemAlloc_v2(CUdeviceptr(0), 5 << 20));
    let (mut free, mut total) = (0, 0);
    must!(cuda.cuMemGetInfo_v2(&raw mut free, &raw mut total));
    let told = memory(device);
    assert_eq!((told.free, told.total), (free as u64, total as u64));
    assert_eq!(told.used, (total - free) as u64);
    assert!(told.used >= 5 << 20);
    assert_eq!(value_of!(cuda.cuDeviceTotalMem_v2(0, CUdevice(0))) as u64, told.total);
    let mut name = [0; 96];
    must!(cuda.cuDeviceGetName(name.as_mut_ptr(), 96, CUdevice(0)));
    let name = CStr::from_bytes_until_nul(&name).unwrap().to_str().unwrap();
    assert_eq!(text(|into, len| nvml!(nvml.nvmlDeviceGetName(handle, into, len))), name);
    let uuid = value_of!(cuda.cuDeviceGetUuid_v2(CUuuid { bytes: [0; 16] }, CUdevice(0)));
    let uuid = uuid_text(&uuid.bytes);
    assert_eq!(text(|into, len| nvml!(nvml.nvmlDeviceGetUUID(handle, into, len))), uuid);
    let c_uuid = CString::new(uuid).unwrap();
    let mut found = nvmlDevice_t(0);
    assert_eq!(nvml!(nvml.nvmlDeviceGetHandleByUUID(c_uuid.as_ptr(), &raw mut found)), NVML_SUCCESS);
    assert_eq!(found, handle);
    places(device, cuda);
    let list = processes(device);
    let [own] = list.as_slice() else { panic!("{list:?}") };
    assert_eq!((own.pid, own.usedGpuMemory), (std::process::id(), told.used));
    let program = text(|into, len| nvml!(nvml.nvmlSystemGetProcessName(own.pid, into, len)));
    assert!(program.ends_with("nvml-program"), "{program}");
    must!(cuda.cuMemFree_v2(held));
    assert!(memory(device).used < told.used);
    must!(cuda.cuDevicePrimaryCtxRelease_v2(CUdevice(0)));
    assert_eq!(processes(device).len(), 0, "no context, no process");
    assert_eq!(nvml!(nvml.nvmlShutdown()), NVML_SUCCESS);
    assert_eq!(nvml!(nvml.nvmlShutdown()), NVML_ERROR_UNINITIALIZED);
    println!("equal");
}

/// Where the device is, how able it is, and what its library's version is.
fn places(device: &Device, cuda: &Cuda) {
    let Device { nvml, handle } = *device;
    let mut id = [0_u8; 32];
    must!(cuda.cuDeviceGetPCIBusId(id.as_mut_ptr(), 32, CUdevice(0)));
    let id = CStr::from_bytes_until_nul(&id).unwrap();
    let mut pci = nvmlPciInfo_t::new_zeroed();
    assert_eq!(nvml!(nvml.nvmlDeviceGetPciInfo_v3(handle, &raw mut pci)), NVML_SUCCESS);
    let told = CStr::from_bytes_until_nul(&pci.busId).unwrap();
    assert!(told.to_str().unwrap().eq_ignore_ascii_case(&format!("0000{}", id.to_str().unwrap())));
    for id in [id, told, CStr::from_bytes_until_nul(&pci.busIdLegacy).unwrap()] {
        let mut found = nvmlDevice_t(0);
        assert_eq!(nvml!(nvml.nvmlDeviceGetHandleByPciBusId_v2(id.as_ptr(), &raw mut found)), NVML_SUCCESS);
        assert_eq!(found, handle);
    }
    let (mut major, mut minor) = (0, 0);
    let able = nvml!(nvml.nvmlDeviceGetCudaComputeCapability(handle, &raw mut major, &raw mut minor));
    assert_eq!(able, NVML_SUCCESS);
    assert_eq!(major, value_of!(cuda.cuDeviceGetAttribute(0, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, CUdevice(0))));
    assert_eq!(minor, value_of!(cuda.cuDeviceGetAttribute(0, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, CUdevice(0))));
    let mut version = 0;
    assert_eq!(nvml!(nvml.nvmlSystemGetCudaDriverVersion_v2(&raw mut version)), NVML_SUCCESS);
    assert_eq!(version, value_of!(cuda.cuDriverGetVersion(0)));
}

/// Before nvmlInit and without what it needs.
fn early(nvml: &Nvml) {
    let mut count = 7;
    assert_eq!(nvml!(nvml.nvmlDeviceGetCount_v2(&raw mut count)), NVML_ERROR_UNINITIALIZED);
    assert_eq!(count, 7);
    assert_eq!(nvml!(nvml.nvmlInitWithFlags(1 << 30)), NVML_ERROR_INVALID_ARGUMENT);
    println!("{}", nvml.error_string(nvml!(nvml.nvmlInit())));
}

/// Absent functions, NULL and handles that are none.
fn absent(nvml: &Nvml) {
    let Device { handle, .. } = device(nvml);
    for (name, answer) in nvml.absent() {
        assert_eq!(answer, NVML_ERROR_NOT_SUPPORTED, "{name}");
    }
    let mut word = 0;
    let null = std::ptr::null_mut();
    assert_eq!(nvml!(nvml.nvmlDeviceGetCount_v2(null)), NVML_ERROR_INVALID_ARGUMENT);
    assert_eq!(nvml!(nvml.nvmlDeviceGetPowerUsage(handle, null)), NVML_ERROR_INVALID_ARGUMENT);
    for forged in [0, 1, handle.0 + 1, usize::MAX].map(nvmlDevice_t) {
        assert_eq!(nvml!(nvml.nvmlDeviceGetIndex(forged, &raw mut word)), NVML_ERROR_INVALID_ARGUMENT);
        assert_eq!(nvml!(nvml.nvmlDeviceGetPowerUsage(forged, &raw mut word)), NVML_ERROR_INVALID_ARGUMENT);
    }
    let mut short = [0_u8; 4];
    let cut = nvml!(nvml.nvmlDeviceGetUUID(handle, short.as_mut_ptr().cast(), 4));
    assert_eq!(cut, NVML_ERROR_INSUFFICIENT_SIZE);
    println!("refused");
}

/// As PyTorch counts devices: by NVML, so that children may still use CUDA.
fn fork(nvml: &Nvml, folder: &Path) {
    let parents = device(nvml);
    let before = memory(&parents).used;
    // SAFETY: one thread; the child does nothing but ordinary calls.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let cuda = Cuda::load(&folder.join("libcuda.so.1"));
        beside_cuda(&parents, &cuda);
        std::process::exit(0);
    }
    let mut status = 0;
    // SAFETY: waits for the child above.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(memory(&parents).used, before);
    println!("{status}");
}

/// What the host's NVML says, or that there is none.
fn hardware(device: &Device) {
    let Device { nvml, handle } = *device;
    let (mut temperature, mut power, mut energy) = (0, 0, 0);
    let first = nvml!(nvml.nvmlDeviceGetTemperature(handle, 0, &raw mut temperature));
    let driver = text(|into, len| nvml!(nvml.nvmlSystemGetDriverVersion(into, len)));
    if first != NVML_SUCCESS {
        println!("{} {driver}", nvml.error_string(first));
        return;
    }
    assert_eq!(nvml!(nvml.nvmlDeviceGetPowerUsage(handle, &raw mut power)), NVML_SUCCESS);
    assert_eq!(nvml!(nvml.nvmlDeviceGetTotalEnergyConsumption(handle, &raw mut energy)), NVML_SUCCESS);
    let serial = text(|into, len| nvml!(nvml.nvmlDeviceGetSerial(handle, into, len)));
    let mut versioned = [struct_version(12, 1), 0, 0];
    let told = nvml!(nvml.nvmlDeviceGetTemperatureV(handle, versioned.as_mut_ptr().cast()));
    assert_eq!(told, NVML_SUCCESS);
    versioned[0] = 12 << 8;
    let wrong = nvml!(nvml.nvmlDeviceGetTemperatureV(handle, versioned.as_mut_ptr().cast()));
    let mut fields = [nvmlFieldValue_t::new_zeroed(); 3];
    fields[2].fieldId = 83;
    assert_eq!(nvml!(nvml.nvmlDeviceGetFieldValues(handle, 3, fields.as_mut_ptr())), NVML_SUCCESS);
    assert_eq!(nvml!(nvml.nvmlDeviceGetFieldValues(handle, -1, fields.as_mut_ptr())), NVML_ERROR_INVALID_ARGUMENT);
    let mut pci = nvmlPciInfo_t::new_zeroed();
    assert_eq!(nvml!(nvml.nvmlDeviceGetPciInfo_v3(handle, &raw mut pci)), NVML_SUCCESS);
    let mut speed = 0;
    let absent = nvml!(nvml.nvmlDeviceGetFanSpeed(handle, &raw mut speed));
    println!(
        "{driver} {temperature} {power} {energy} {serial} {} {} {} {:x} {}",
        versioned[2],
        nvml.error_string(wrong),
        fields[2].value,
        pci.pciDeviceId,
        nvml.error_string(absent),
    );
}
