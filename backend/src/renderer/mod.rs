//! The renderer: a process that draws what one VM's programs ask of OpenGL and
//! knows nothing of virtqueues. Its only ties are the socket on its standard
//! input and what comes over it: guest memory, the VM's lease, an account.
//! `serve` runs messages in their order on a [`Library`]; `program` is
//! `paravane-renderer`, whose library is rutabaga_gfx over virglrenderer, in the
//! cargo feature `gl`, for it needs virglrenderer.

#[cfg(feature = "gl")]
mod draw;
mod fences;
mod hear;
mod lease;
#[cfg(feature = "gl")]
mod memory;
#[cfg(any(test, feature = "gl"))]
mod opaque;
#[cfg(feature = "gl")]
mod program;
mod serve;
#[cfg(feature = "gl")]
mod venus;
pub mod vulkan;

pub use fences::{Fence, Fences};
pub use hear::Message;
#[cfg(feature = "gl")]
pub use program::main;
pub use serve::{Executed, Library, serve};
