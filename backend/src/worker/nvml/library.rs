//! The host's NVML: loaded when a guest first asks, from where the dynamic
//! linker finds it, and reached through one function pointer for each row that
//! is read from it.
#![allow(unsafe_code, reason = "foreign functions")]

use std::ffi::{CString, c_char};

use libloading::Library;
use paravane_protocol::arg::*;
use paravane_protocol::limits::NVML_TEXT_MAX;
use paravane_protocol::nvml_arg::*;
use paravane_protocol::nvml_types::*;
use zerocopy::FromZeros;

/// The name by which the dynamic linker finds NVIDIA's library.
const NVML: &str = "libnvidia-ml.so.1";
/// Exported by the guest's own library: to load that would be to ask oneself.
const SHIM_SYMBOL: &[u8] = b"paravane_shim";
/// Processes of a host's device that are looked at.
const PROCESSES_MAX: u32 = 4096;

type Answer<T = ()> = Result<T, nvmlReturn_t>;

macro_rules! functions {
    ($($number:literal $verb:ident fn $name:ident($($arg:ident: $kind:ty $([$len:expr])?),*);)*) => {
        /// The library's functions; `None` where it lacks a symbol.
        #[allow(dead_code, reason = "local rows are the guest's, but for a few")]
        pub(in crate::worker) struct Nvml {
            $(pub(super) $name: Option<unsafe extern "C" fn($(<$kind as Arg>::C),*) -> nvmlReturn_t>,)*
            /// Keeps the functions in place.
            _library: Library,
        }

        impl Nvml {
            fn of(library: Library) -> Self {
                Self {
                    $($name: symbol(&library, concat!(stringify!($name), "\0")),)*
                    _library: library,
                }
            }
        }
    };
}
paravane_protocol::nvml_api!(functions);

fn symbol<F: Copy>(library: &Library, name: &str) -> Option<F> {
    // SAFETY: F is the C prototype of the symbol, from the table.
    unsafe { library.get::<F>(name.as_bytes()) }.ok().map(|symbol| *symbol)
}

/// Calls a function of NVML; NVML_ERROR_NOT_SUPPORTED where it is missing.
macro_rules! nvml {
    ($nvml:ident . $name:ident ($($arg:expr),* $(,)?)) => {
        $nvml.$name.ok_or(NVML_ERROR_NOT_SUPPORTED).and_then(|function| {
            // SAFETY: the function has the table's prototype; pointers among the
            // arguments are to locals that outlive the call.
            unsafe { function($($arg),*) }.ok()
        })
    };
}

impl Nvml {
    /// The host's, initialised; `None` where it has none.
    pub(in crate::worker) fn load() -> Option<Self> {
        // SAFETY: NVML's initialisers are safe to run; the name is the system's.
        let library = unsafe { Library::new(NVML) }.inspect_err(|error| log::info!("no NVML: {error}")).ok()?;
        // SAFETY: only whether the symbol exists is looked at.
        if unsafe { library.get::<*const u8>(SHIM_SYMBOL) }.is_ok() {
            log::warn!("{NVML} is a guest's: the host's devices are not read");
            return None;
        }
        let nvml = Self::of(library);
        match nvml!(nvml.nvmlInit_v2()) {
            Ok(()) => Some(nvml),
            Err(error) => {
                log::info!("nvmlInit: {error:?}");
                None
            }
        }
    }

    pub(super) fn by_uuid(&self, uuid: &[u8; 16]) -> Answer<nvmlDevice_t> {
        let text = CString::new(uuid_text(uuid)).map_err(|_| NVML_ERROR_UNKNOWN)?;
        let mut device = nvmlDevice_t(0);
        nvml!(self.nvmlDeviceGetHandleByUUID(text.as_ptr(), &raw mut device))?;
        Ok(device)
    }

    pub(super) fn driver_version(&self) -> Answer<String> {
        let mut text: [c_char; NVML_TEXT_MAX as usize] = [0; _];
        nvml!(self.nvmlSystemGetDriverVersion(text.as_mut_ptr(), NVML_TEXT_MAX))?;
        let bytes = text.iter().map(|byte| byte.cast_unsigned()).take_while(|byte| *byte != 0);
        String::from_utf8(bytes.collect()).map_err(|_| NVML_ERROR_UNKNOWN)
    }

    /// Every process of the host with a context on the device.
    pub(super) fn computing(&self, device: nvmlDevice_t) -> Answer<Vec<nvmlProcessInfo_t>> {
        grown(|count, into| {
            let newest = nvml!(self.nvmlDeviceGetComputeRunningProcesses_v3(device, count, into));
            match newest {
                // Drivers before 510.
                Err(NVML_ERROR_NOT_SUPPORTED) => {
                    nvml!(self.nvmlDeviceGetComputeRunningProcesses_v2(device, count, into))
                }
                other => other,
            }
        })
    }

    /// The device's memory, whoever has it.
    pub(super) fn memory(&self, device: nvmlDevice_t) -> Answer<nvmlMemory_t> {
        let mut memory = nvmlMemory_t { total: 0, free: 0, used: 0 };
        nvml!(self.nvmlDeviceGetMemoryInfo(device, &raw mut memory))?;
        Ok(memory)
    }

    /// The samples that NVML keeps of each process's work.
    pub(super) fn samples(&self, device: nvmlDevice_t) -> Answer<Vec<nvmlProcessUtilizationSample_t>> {
        let samples = grown(|count, into| nvml!(self.nvmlDeviceGetProcessUtilization(device, into, count, 0)));
        match samples {
            Err(NVML_ERROR_NOT_FOUND) => Ok(Vec::new()),
            other => other,
        }
    }
}

/// A list that `fill` writes into an array, whose length it is given and makes
/// the list's; asked again with a longer one where that was too short.
fn grown<T: FromZeros + Clone>(fill: impl Fn(*mut u32, *mut T) -> Answer) -> Answer<Vec<T>> {
    let mut room = 64_u32;
    loop {
        let mut list = vec![T::new_zeroed(); room as usize];
        let mut count = room;
        match fill(&raw mut count, list.as_mut_ptr()) {
            Ok(()) => {
                list.truncate(count as usize);
                return Ok(list);
            }
            Err(NVML_ERROR_INSUFFICIENT_SIZE) if room < PROCESSES_MAX => room *= 2,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_grows_until_it_fits() {
        let fill = |count: *mut u32, into: *mut u64| {
            // SAFETY: grown() hands over room for a count.
            let room = unsafe { count.read() };
            // SAFETY: as above.
            unsafe { count.write(100) };
            if room < 100 {
                return Err(NVML_ERROR_INSUFFICIENT_SIZE);
            }
            (0..100).for_each(|number| {
                // SAFETY: room for more than 100.
                unsafe { into.wrapping_add(number).write(number as u64) }
            });
            Ok(())
        };
        assert_eq!(grown(fill).unwrap(), (0..100).collect::<Vec<u64>>());
        let refused: Answer<Vec<u64>> = grown(|_, _| Err(NVML_ERROR_NO_PERMISSION));
        assert_eq!(refused, Err(NVML_ERROR_NO_PERMISSION));
    }
}
