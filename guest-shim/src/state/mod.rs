//! What the guest knows without asking: devices, the calling thread's context
//! stack, which streams have work, what functions take, where memory lies.

pub(crate) mod bounce;
pub(crate) mod capture;
pub(crate) mod arrays;
pub(crate) mod current;
pub(crate) mod devices;
pub(crate) mod functions;
pub(crate) mod globals;
pub(crate) mod graph_nodes;
pub(crate) mod host_memory;
pub(crate) mod mode;
pub(crate) mod objects;
pub(crate) mod pools;
pub(crate) mod ranges;
pub(crate) mod staging;
pub(crate) mod stream;
