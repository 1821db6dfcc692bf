//! Which libcuda the workers load. A candidate is tried in a child process
//! (`paravane-backend probe PATH`), so that the backend never has a driver in
//! its address space, and a driver that hangs or crashes does so alone.
#![allow(unsafe_code)] // The probe calls into the library.

use std::ffi::{OsStr, c_int};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::devices::{self, Device};

/// The name by which the dynamic linker finds NVIDIA's library.
const NVIDIA: &str = "libcuda.so.1";
/// cpu-driver's file name.
const CPU_DRIVER: &str = "libparavane_cpu.so";
/// Exported by Paravane's own guest shim: to load that would be to ask oneself.
const SHIM_SYMBOL: &[u8] = b"paravane_shim";
/// cuInit of a machine with eight GPUs and no persistence daemon takes seconds.
const PROBE_MAX: Duration = Duration::from_secs(30);

/// A library and why it was chosen.
#[derive(Debug)]
pub struct Choice {
    /// What to load.
    pub path: PathBuf,
    /// For the log.
    pub reason: String,
    /// What it has, as far as it tells.
    pub devices: Vec<Device>,
}

/// Why there is no library.
#[derive(Debug, thiserror::Error)]
pub enum NoLibcuda {
    /// `--libcuda` names something that cannot be used.
    #[error("--libcuda {path}: {why}")]
    Given {
        /// The option's value.
        path: PathBuf,
        /// What the probe said.
        why: String,
    },
    /// Neither NVIDIA's nor cpu-driver's.
    #[error(
        "no libcuda: no GPU, {nvidia}; {CPU_DRIVER} is in none of {places:?}. Build \
         it (cargo build --release), or name a library with --libcuda PATH"
    )]
    None {
        /// What the probe said of NVIDIA's.
        nvidia: String,
        /// Where cpu-driver was looked for.
        places: Vec<PathBuf>,
    },
}

/// What a probe found.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// It works and has these devices.
    Devices(Vec<Device>),
    /// It is a libcuda, but this is wrong.
    Unusable(String),
    /// It cannot be loaded, or is no libcuda.
    Nothing(String),
}

/// Chooses: the given one, else NVIDIA's if it finds a GPU, else cpu-driver.
pub fn choose(given: Option<&Path>) -> Result<Choice, NoLibcuda> {
    if let Some(path) = given {
        // A worker may have another working directory one day. What is no file
        // here is a name for the dynamic linker.
        let path = path.canonicalize().unwrap_or_else(|_| path.into());
        let (reason, devices) = match probe(&path) {
            Found::Devices(devices) => (format!("--libcuda, {} device(s)", devices.len()), devices),
            Found::Unusable(why) => (format!("--libcuda, although {why}"), Vec::new()),
            Found::Nothing(why) => return Err(NoLibcuda::Given { path, why }),
        };
        return Ok(Choice { path, reason, devices });
    }
    let nvidia = match probe(Path::new(NVIDIA)) {
        Found::Devices(devices) => {
            let reason = format!("the system's, {} device(s)", devices.len());
            return Ok(Choice { path: NVIDIA.into(), reason, devices });
        }
        Found::Unusable(why) | Found::Nothing(why) => why,
    };
    let places = cpu_driver_places();
    match places.iter().find(|place| place.is_file()) {
        Some(path) => {
            let reason = format!("kernels run on the CPU: no GPU, {nvidia}");
            let devices = match probe(path) {
                Found::Devices(devices) => devices,
                Found::Unusable(_) | Found::Nothing(_) => Vec::new(),
            };
            Ok(Choice { path: path.clone(), reason, devices })
        }
        None => Err(NoLibcuda::None { nvidia, places }),
    }
}

/// Beside the executable, or where a package puts it.
fn cpu_driver_places() -> Vec<PathBuf> {
    let executable = std::env::current_exe().ok();
    let Some(folder) = executable.as_deref().and_then(Path::parent) else { return Vec::new() };
    vec![folder.join(CPU_DRIVER), folder.join("../lib/paravane").join(CPU_DRIVER)]
}

/// Runs `paravane-backend probe PATH` and reads its verdict.
fn probe(path: &Path) -> Found {
    let child = Command::new("/proc/self/exe")
        .arg("probe")
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return Found::Nothing(format!("the probe cannot be started: {error}")),
    };
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() < PROBE_MAX => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(None) | Err(_) => {
                // Reaped by wait(); an error of either leaves nothing to do.
                let _ = child.kill();
                let _ = child.wait();
                return Found::Nothing(format!("cuInit took over {PROBE_MAX:?}"));
            }
        }
    };
    let mut said = String::new();
    if let Some(mut out) = child.stdout.take() {
        // What cannot be read is judged as nothing said.
        let _ = out.read_to_string(&mut said);
    }
    verdict(&said).unwrap_or_else(|| Found::Nothing(format!("the probe ended with {status}")))
}

fn verdict(said: &str) -> Option<Found> {
    let (kind, rest) = said.trim().split_once(' ')?;
    match kind {
        "devices" => serde_json::from_str(rest).ok().map(Found::Devices),
        "unusable" => Some(Found::Unusable(rest.to_string())),
        "nothing" => Some(Found::Nothing(rest.to_string())),
        _ => None,
    }
}

/// The probe itself, in its own process: says what it finds on stdout.
pub fn probe_main(path: &OsStr) -> ExitCode {
    match try_library(path) {
        Found::Devices(devices) => println!("devices {}", serde_json::json!(devices)),
        Found::Unusable(why) => println!("unusable {why}"),
        Found::Nothing(why) => println!("nothing {why}"),
    }
    ExitCode::SUCCESS
}

type CuInit = unsafe extern "C" fn(u32) -> u32;
type CuDeviceGetCount = unsafe extern "C" fn(*mut c_int) -> u32;

fn try_library(path: &OsStr) -> Found {
    // SAFETY: runs the library's constructors, in a process that does nothing
    // else.
    let library = match unsafe { libloading::Library::new(path) } {
        Ok(library) => library,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            return Found::Nothing(cause.unwrap_or_else(|| error.to_string()));
        }
    };
    // SAFETY: only whether the symbol exists is looked at.
    if unsafe { library.get::<*const u8>(SHIM_SYMBOL) }.is_ok() {
        return Found::Nothing("it is Paravane's guest shim, not a driver".to_string());
    }
    // SAFETY: the signature is cuda.h's.
    let init = unsafe { library.get::<CuInit>(b"cuInit") };
    // SAFETY: the signature is cuda.h's.
    let count = unsafe { library.get::<CuDeviceGetCount>(b"cuDeviceGetCount") };
    let (Ok(init), Ok(count)) = (init, count) else {
        return Found::Nothing("it has no cuInit".to_string());
    };
    // SAFETY: cuInit may be called at any time, with flags 0.
    let result = unsafe { init(0) };
    if result != 0 {
        return Found::Unusable(format!("cuInit answers {}", name(result)));
    }
    let mut devices: c_int = 0;
    // SAFETY: `devices` is writable during the call.
    let result = unsafe { count(&raw mut devices) };
    match u32::try_from(devices) {
        Ok(devices) if result == 0 && devices > 0 => Found::Devices(devices::list(&library, devices)),
        _ if result == 0 => Found::Unusable("it finds no device".to_string()),
        _ => Found::Unusable(format!("cuDeviceGetCount answers {}", name(result))),
    }
}

fn name(result: u32) -> String {
    match paravane_protocol::cuda_types::CUresult(result).name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => result.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_as_they_are_said() {
        let device = Device { name: "G\n1".into(), memory_bytes: 7, ..Device::default() };
        let said = format!("devices {}\n", serde_json::json!([device]));
        assert_eq!(verdict(&said), Some(Found::Devices(vec![device])));
        let text = "unusable cuInit answers CUDA_ERROR_NO_DEVICE\n";
        let why = "cuInit answers CUDA_ERROR_NO_DEVICE".to_string();
        assert_eq!(verdict(text), Some(Found::Unusable(why)));
        assert_eq!(verdict("nothing no such file\n"), Some(Found::Nothing("no such file".into())));
        assert_eq!(verdict(""), None);
        assert_eq!(verdict("devices many"), None);
    }

    #[test]
    fn what_is_no_libcuda_is_said_to_be_none() {
        let Found::Nothing(_) = try_library(OsStr::new("/nowhere/libcuda.so.1")) else {
            panic!("a missing file was loaded");
        };
        let Found::Nothing(why) = try_library(OsStr::new("libc.so.6")) else {
            panic!("libc passed for libcuda");
        };
        assert_eq!(why, "it has no cuInit");
    }
}
