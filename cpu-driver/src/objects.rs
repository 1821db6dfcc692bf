//! The tables of what programs hold handles of, contexts excepted, and what those objects are.

use crate::context::Context;
use crate::exec::function::{Function, ParamLayout};
use crate::memory::Pool;
use crate::memory::physical::Physical;
use crate::memory::surface::{Array, Mipmapped};
use crate::module::Module;
use crate::module::managed::Managed;
use crate::registry::Registry;
use crate::stream::{Stream, event::Event};
use std::collections::HashMap;
use std::ffi::CString;
use std::sync::atomic::AtomicI32;
use std::sync::{Arc, Mutex, OnceLock};

/// A loaded module, its kernels' handles and its context.
pub struct LoadedModule {
    pub module: Module,
    pub context: Arc<Context>,
    /// Handles of kernels that were asked for, by their numbers.
    pub functions: Mutex<HashMap<usize, u64>>,
}

/// A kernel of a module, as CUfunction names it.
pub struct Kernel {
    pub module: Arc<LoadedModule>,
    pub module_handle: u64,
    pub number: usize,
    pub name: CString,
    pub max_dynamic_shared: AtomicI32,
    pub shared_carveout: AtomicI32,
    /// A kernel that does nothing.
    pub is_empty: bool,
    pub has_params: bool,
    /// Threads that a block may have.
    pub max_threads: u32,
}

impl Kernel {
    pub fn function(&self) -> &Function {
        &self.module.module.functions[self.number]
    }
}

/// PTX that was loaded apart from any context; each context gets its own module at first use.
pub struct Library {
    pub text: String,
    /// Its managed variables, which all its modules share.
    pub managed: Arc<Managed>,
    pub modules: Mutex<HashMap<u64, u64>>,
    pub kernels: Mutex<HashMap<String, u64>>,
    /// Names of the kernels in the text.
    pub names: Vec<String>,
    /// Where the parameters of each lie.
    pub params: Vec<Vec<ParamLayout>>,
}

/// A kernel of a library, as CUkernel names it.
pub struct LibraryKernel {
    pub library: u64,
    pub name: CString,
}

/// One input of a link: an object's modules.
pub struct LinkInput {
    pub text: String,
    /// A member of an archive: taken only when something needs it.
    pub is_member: bool,
}

/// A link under way: what was added, and what came of it.
pub struct Link {
    pub inputs: Mutex<Vec<LinkInput>>,
    /// The JIT option that bounds registers.
    pub max_registers: Option<u32>,
    /// The linked image, which the program reads until it ends the link.
    pub image: OnceLock<Vec<u8>>,
    /// Where the program wants errors told: address and size of its buffer.
    pub error_log: Option<(usize, usize)>,
    pub context: u64,
}

pub static MODULES: Registry<LoadedModule> = Registry::new(2);
pub static KERNELS: Registry<Kernel> = Registry::new(3);
pub static LIBRARIES: Registry<Library> = Registry::new(4);
pub static LIBRARY_KERNELS: Registry<LibraryKernel> = Registry::new(5);
pub static STREAMS: Registry<Stream> = Registry::new(6);
pub static EVENTS: Registry<Event> = Registry::new(7);
pub static LINKS: Registry<Link> = Registry::new(40);
pub static ARRAYS: Registry<Array> = Registry::new(8);
pub static MIPMAPPED: Registry<Mipmapped> = Registry::new(42);
pub static PHYSICAL: Registry<Arc<Physical>> = Registry::new(43);
pub static GREENS: Registry<Arc<Context>> = Registry::new(60);
pub static RESOURCE_DESCS: Registry<ResourceDesc> = Registry::new(61);
pub static POOLS: Registry<Arc<Pool>> = Registry::new(41);

/// What a green context is to have.
pub struct ResourceDesc {
    pub multiprocessors: Option<u32>,
    pub queues: Option<[u32; 2]>,
}

/// Ends every handle of a context's objects.
pub fn remove_context(context: u64) {
    let kernels = KERNELS.remove_where(|kernel| kernel.module.context.owner == context);
    let modules = MODULES.remove_where(|module| module.context.owner == context);
    let streams = STREAMS.remove_where(|stream| stream.context.owner == context);
    LINKS.remove_where(|link| link.context == context);
    let events = EVENTS.remove_where(|event| event.context.owner == context);
    let arrays = ARRAYS.remove_where(|array| array.context == context);
    let mipmapped = MIPMAPPED.remove_where(|array| array.context == context);
    crate::memory::texture::remove_context(context);
    drop((kernels, modules, streams, events, arrays, mipmapped));
}
