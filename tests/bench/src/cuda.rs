//! The few calls of CUDA's driver API that the probes make, on whatever
//! libcuda they are told to load: the shim, cpu-driver or NVIDIA's.
#![allow(unsafe_code, reason = "a C library")]

use std::ffi::{CStr, c_char, c_void};
use std::path::Path;

use anyhow::{Context, Result, bail};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

/// A kernel that does nothing, with the parameters of a usual one.
const PTX: &CStr = c"
.version 6.0
.target sm_70
.address_size 64
.visible .entry nothing(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n)
{
    ret;
}
";

/// A kernel that takes as long as it is told; the tests have the same.
const SPIN: &str = concat!(include_str!("../../src/spin.ptx"), "\0");

/// An opaque handle.
pub(crate) type Handle = *mut c_void;
pub(crate) type HostFunction = extern "C" fn(*mut c_void);

macro_rules! functions {
    ($($field:ident $symbol:ident($($type:ty),*);)*) => {
        struct Functions {
            $($field: unsafe extern "C" fn($($type),*) -> u32,)*
        }
        impl Functions {
            fn load(library: &Library) -> Result<Self> {
                Ok(Self {$(
                    $field: {
                        // SAFETY: the type is cuda.h's prototype of this symbol.
                        let found = unsafe { library.get(concat!(stringify!($symbol), "\0")) };
                        *found.context(concat!("no symbol ", stringify!($symbol)))?
                    },
                )*})
            }
        }
        /// CUDA's names, for messages.
        #[allow(non_upper_case_globals, reason = "fields' names")]
        mod name {
            $(pub(super) const $field: &str = stringify!($symbol);)*
        }
    };
}

functions! {
    init cuInit(u32);
    context_create cuCtxCreate_v2(*mut Handle, u32, i32);
    primary_retain cuDevicePrimaryCtxRetain(*mut Handle, i32);
    set_current cuCtxSetCurrent(Handle);
    get_current cuCtxGetCurrent(*mut Handle);
    get_device cuCtxGetDevice(*mut i32);
    attribute cuDeviceGetAttribute(*mut i32, i32, i32);
    primary_state cuDevicePrimaryCtxGetState(i32, *mut u32, *mut i32);
    api_version cuCtxGetApiVersion(Handle, *mut u32);
    module_load cuModuleLoadData(*mut Handle, *const c_char);
    module_unload cuModuleUnload(Handle);
    function_get cuModuleGetFunction(*mut Handle, Handle, *const c_char);
    stream_create cuStreamCreate(*mut Handle, u32);
    stream_synchronize cuStreamSynchronize(Handle);
    launch cuLaunchKernel(Handle, u32, u32, u32, u32, u32, u32, u32, Handle, *mut *mut c_void, *mut *mut c_void);
    event_create cuEventCreate(*mut Handle, u32);
    event_record cuEventRecord(Handle, Handle);
    event_query cuEventQuery(Handle);
    event_synchronize cuEventSynchronize(Handle);
    launch_host_function cuLaunchHostFunc(Handle, HostFunction, *mut c_void);
    total_memory cuDeviceTotalMem_v2(*mut usize, i32);
    alloc cuMemAlloc_v2(*mut u64, usize);
    free cuMemFree_v2(u64);
    host_alloc cuMemAllocHost_v2(*mut *mut c_void, usize);
    host_free cuMemFreeHost(*mut c_void);
    to_device cuMemcpyHtoD_v2(u64, *const c_void, usize);
    to_device_async cuMemcpyHtoDAsync_v2(u64, *const c_void, usize, Handle);
    from_device cuMemcpyDtoH_v2(*mut c_void, u64, usize);
    begin_capture cuStreamBeginCapture_v2(Handle, i32);
    end_capture cuStreamEndCapture(Handle, *mut Handle);
    instantiate cuGraphInstantiateWithFlags(*mut Handle, Handle, u64);
    graph_launch cuGraphLaunch(Handle, Handle);
}

/// Calls one of the functions and turns its CUresult into a `Result`.
macro_rules! cuda {
    ($self:ident.$field:ident($($argument:expr),*)) => {{
        // SAFETY: the arguments are as cuda.h asks; pointers are to live values.
        let result = unsafe { ($self.functions.$field)($($argument),*) };
        check(name::$field, result)
    }};
}

fn check(name: &str, result: u32) -> Result<()> {
    if result != 0 {
        bail!("{name} answered CUresult {result}");
    }
    Ok(())
}

/// A loaded libcuda. It is never unloaded: libraries with threads are not.
pub(crate) struct Cuda {
    functions: Functions,
}

impl Cuda {
    /// Loads the library; calls nothing in it.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        // SAFETY: a libcuda; what its constructors do is its affair.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
        let library = library.with_context(|| format!("cannot load {}", path.display()))?;
        let functions = Functions::load(&library).with_context(|| path.display().to_string())?;
        std::mem::forget(library);
        Ok(Self { functions })
    }

    pub(crate) fn init(&self) -> Result<()> {
        cuda!(self.init(0))
    }

    /// Device 0's primary context, made current, with the stand-in kernel and
    /// a stream.
    pub(crate) fn session(&self) -> Result<Session<'_>> {
        let mut context = std::ptr::null_mut();
        cuda!(self.primary_retain(&raw mut context, 0))?;
        self.session_in(context)
    }

    /// The same in a context of its own.
    pub(crate) fn separate_session(&self) -> Result<Session<'_>> {
        let mut context = std::ptr::null_mut();
        cuda!(self.context_create(&raw mut context, 0, 0))?;
        self.session_in(context)
    }

    fn session_in(&self, context: Handle) -> Result<Session<'_>> {
        cuda!(self.set_current(context))?;
        let mut module = std::ptr::null_mut();
        cuda!(self.module_load(&raw mut module, PTX.as_ptr()))?;
        let mut kernel = std::ptr::null_mut();
        cuda!(self.function_get(&raw mut kernel, module, c"nothing".as_ptr()))?;
        let mut stream = std::ptr::null_mut();
        cuda!(self.stream_create(&raw mut stream, 1))?;
        Ok(Session { functions: &self.functions, context, kernel, stream })
    }

    /// An event without a time, whose waiters sleep.
    pub(crate) fn event(&self) -> Result<Handle> {
        let mut event = std::ptr::null_mut();
        cuda!(self.event_create(&raw mut event, 3))?;
        Ok(event)
    }

    /// Whether what was recorded has been reached.
    pub(crate) fn is_reached(&self, event: Handle) -> Result<bool> {
        const NOT_READY: u32 = 600;
        // SAFETY: an event of ours.
        let result = unsafe { (self.functions.event_query)(event) };
        if result == NOT_READY {
            return Ok(false);
        }
        check(name::event_query, result).map(|()| true)
    }

    pub(crate) fn wait_for(&self, event: Handle) -> Result<()> {
        cuda!(self.event_synchronize(event))
    }
}

/// A context with what the probes need in it.
pub(crate) struct Session<'a> {
    functions: &'a Functions,
    context: Handle,
    kernel: Handle,
    stream: Handle,
}

impl<'a> Session<'a> {
    /// A call that no library answers without its context, so it is awaited.
    #[inline]
    pub(crate) fn awaited(&self) -> Result<u32> {
        let mut version = 0;
        cuda!(self.api_version(self.context, &raw mut version))?;
        Ok(version)
    }

    /// One block of 32 threads of the stand-in kernel.
    #[inline]
    pub(crate) fn launch(&self) -> Result<()> {
        let mut pointers = [0x1000_u64, 0x2000, 0x3000];
        let [a, b, c] = pointers.each_mut().map(|p| std::ptr::from_mut(p).cast::<c_void>());
        let mut n = 7_u32;
        let mut parameters = [a, b, c, (&raw mut n).cast()];
        let nothing = std::ptr::null_mut();
        cuda!(self.launch(
            self.kernel, 1, 1, 1, 32, 1, 1, 0, self.stream, parameters.as_mut_ptr(), nothing
        ))
    }

    #[inline]
    pub(crate) fn synchronize(&self) -> Result<()> {
        cuda!(self.stream_synchronize(self.stream))
    }

    /// This context is the thread's from now on.
    pub(crate) fn enter(&self) -> Result<()> {
        cuda!(self.set_current(self.context))
    }

    /// Another stream in this context.
    pub(crate) fn on_new_stream(&self) -> Result<Self> {
        let mut stream = std::ptr::null_mut();
        cuda!(self.stream_create(&raw mut stream, 1))?;
        Ok(Self { stream, ..*self })
    }

    pub(crate) fn record(&self, event: Handle) -> Result<()> {
        cuda!(self.event_record(event, self.stream))
    }

    /// Has the library call `function` when the stream gets there. `data` is
    /// handed on and never read here.
    pub(crate) fn call_back(&self, function: HostFunction, data: *mut c_void) -> Result<()> {
        cuda!(self.launch_host_function(self.stream, function, data))
    }

    /// The kernel that takes as long as it is told.
    pub(crate) fn spin(&self) -> Result<Spin<'a>> {
        let module = self.load(CStr::from_bytes_with_nul(SPIN.as_bytes())?)?;
        let mut kernel = std::ptr::null_mut();
        cuda!(self.function_get(&raw mut kernel, module, c"spin".as_ptr()))?;
        Ok(Spin { functions: self.functions, stream: self.stream, kernel, word: self.alloc(4)? })
    }

    /// Loads a NUL-terminated image.
    pub(crate) fn load(&self, image: &CStr) -> Result<Handle> {
        let mut module = std::ptr::null_mut();
        cuda!(self.module_load(&raw mut module, image.as_ptr()))?;
        Ok(module)
    }

    pub(crate) fn unload(&self, module: Handle) -> Result<()> {
        cuda!(self.module_unload(module))
    }

    #[inline]
    pub(crate) fn current_device(&self) -> Result<()> {
        let mut device = 0;
        cuda!(self.get_device(&raw mut device))
    }

    #[inline]
    pub(crate) fn current_context(&self) -> Result<()> {
        let mut context = std::ptr::null_mut();
        cuda!(self.get_current(&raw mut context))
    }

    /// The number of multiprocessors.
    #[inline]
    pub(crate) fn attribute(&self) -> Result<()> {
        let mut value = 0;
        cuda!(self.attribute(&raw mut value, 16, 0))
    }

    #[inline]
    pub(crate) fn primary_state(&self) -> Result<()> {
        let (mut flags, mut active) = (0, 0);
        cuda!(self.primary_state(0, &raw mut flags, &raw mut active))
    }

    /// Bytes of device 0.
    pub(crate) fn total_memory(&self) -> Result<usize> {
        let mut bytes = 0;
        cuda!(self.total_memory(&raw mut bytes, 0))?;
        Ok(bytes)
    }

    pub(crate) fn alloc(&self, bytes: usize) -> Result<u64> {
        let mut address = 0;
        cuda!(self.alloc(&raw mut address, bytes))?;
        Ok(address)
    }

    pub(crate) fn free(&self, address: u64) -> Result<()> {
        cuda!(self.free(address))
    }

    /// Pinned memory, as a slice that lives until [`Session::host_free`].
    pub(crate) fn host_alloc(&self, bytes: usize) -> Result<&'static mut [u8]> {
        let mut address = std::ptr::null_mut::<c_void>();
        cuda!(self.host_alloc(&raw mut address, bytes))?;
        // SAFETY: the library gave `bytes` readable and writable bytes to us alone.
        Ok(unsafe { std::slice::from_raw_parts_mut(address.cast(), bytes) })
    }

    /// The slice must have come from [`Session::host_alloc`] whole.
    pub(crate) fn host_free(&self, memory: &'static mut [u8]) -> Result<()> {
        cuda!(self.host_free(memory.as_mut_ptr().cast()))
    }

    pub(crate) fn copy_in(&self, to: u64, from: &[u8]) -> Result<()> {
        cuda!(self.to_device(to, from.as_ptr().cast(), from.len()))
    }

    #[inline]
    pub(crate) fn copy_in_async(&self, to: u64, from: &[u8]) -> Result<()> {
        cuda!(self.to_device_async(to, from.as_ptr().cast(), from.len(), self.stream))
    }

    pub(crate) fn copy_out(&self, to: &mut [u8], from: u64) -> Result<()> {
        cuda!(self.from_device(to.as_mut_ptr().cast(), from, to.len()))
    }
}

/// A kernel that spins, and the stream that it runs on.
pub(crate) struct Spin<'a> {
    functions: &'a Functions,
    stream: Handle,
    kernel: Handle,
    word: u64,
}

impl Spin<'_> {
    /// One thread that counts to `turns`.
    pub(crate) fn launch(&self, turns: u32) -> Result<()> {
        let (mut word, mut turns) = (self.word, turns);
        let mut parameters: [*mut c_void; 2] = [(&raw mut word).cast(), (&raw mut turns).cast()];
        let nothing = std::ptr::null_mut();
        cuda!(self.launch(self.kernel, 1, 1, 1, 1, 1, 1, 0, self.stream, parameters.as_mut_ptr(), nothing))
    }

    /// A graph of so many such kernels, one after the other.
    pub(crate) fn graph(&self, turns: u32, nodes: u32) -> Result<Handle> {
        let (mut graph, mut exec) = (std::ptr::null_mut(), std::ptr::null_mut());
        cuda!(self.begin_capture(self.stream, 0))?;
        (0..nodes).try_for_each(|_| self.launch(turns))?;
        cuda!(self.end_capture(self.stream, &raw mut graph))?;
        cuda!(self.instantiate(&raw mut exec, graph, 0))?;
        Ok(exec)
    }

    pub(crate) fn launch_graph(&self, graph: Handle) -> Result<()> {
        cuda!(self.graph_launch(graph, self.stream))
    }
}
