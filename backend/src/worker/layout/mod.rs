//! Where a kernel's parameters lie, read from the image itself: for libraries
//! older than CUDA 12.4, which have no cuFuncGetParamInfo. An image is PTX, a
//! cubin, or a fat binary that holds several of them; whichever of them names
//! a kernel, the layout is the same.

mod cubin;
pub(super) mod fatbin;
mod ptx;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use paravane_protocol::cuda_types::*;

use super::handles::Handles;

/// One parameter: offset and size in bytes.
pub(super) type Param = (u64, u64);

/// The kernels of an image by name, each with its parameters in order.
pub(super) type Layouts = HashMap<String, Vec<Param>>;

/// What the images of a process have told, by the guest's ids.
#[derive(Debug, Default)]
pub(super) struct Images(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Of modules and libraries.
    images: HashMap<u64, Arc<Layouts>>,
    kernels: HashMap<u64, Vec<Param>>,
}

impl Images {
    fn with<T>(&self, act: impl FnOnce(&mut Known) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A module or library was loaded from this image. What belongs to ids that
    /// are no more is dropped meanwhile.
    pub(super) fn loaded(&self, owner: u64, image: &[u8], handles: &Handles) {
        let layouts = Arc::new(of_image(image));
        self.with(|known| {
            let lives = |id| handles.resolve(CUmodule(id)).is_ok() || handles.resolve(CUlibrary(id)).is_ok();
            known.images.retain(|id, _| lives(*id));
            known.kernels.retain(|id, _| handles.resolve(CUkernel(*id)).is_ok());
            known.images.insert(owner, layouts);
        });
    }

    /// `module` is that of `library` in some context.
    pub(super) fn module_of(&self, library: u64, module: u64) {
        self.with(|known| {
            if let Some(layouts) = known.images.get(&library).cloned() {
                known.images.insert(module, layouts);
            }
        });
    }

    /// The parameters of a function or kernel by its owner and name.
    pub(super) fn params(&self, owner: u64, name: &str) -> Option<Vec<Param>> {
        self.with(|known| known.images.get(&owner)?.get(name).cloned())
    }

    /// A kernel was found, and has these parameters.
    pub(super) fn kernel(&self, kernel: u64, params: Vec<Param>) {
        self.with(|known| known.kernels.insert(kernel, params));
    }

    /// The parameters of a kernel.
    pub(super) fn params_of_kernel(&self, kernel: u64) -> Option<Vec<Param>> {
        self.with(|known| known.kernels.get(&kernel).cloned())
    }
}

/// What an image tells. What cannot be read tells nothing.
pub(super) fn of_image(image: &[u8]) -> Layouts {
    let mut layouts = Layouts::new();
    add(image, &mut layouts);
    layouts
}

fn add(image: &[u8], layouts: &mut Layouts) {
    if image.starts_with(&cubin::MAGIC) {
        layouts.extend(cubin::layouts(image).unwrap_or_default());
    } else if image.starts_with(&fatbin::MAGIC) {
        for part in fatbin::parts(image) {
            // A part is PTX or a cubin, never a fat binary again.
            if !part.starts_with(&fatbin::MAGIC) {
                add(&part, layouts);
            }
        }
    } else {
        let text = image.split(|byte| *byte == 0).next().unwrap_or_default();
        layouts.extend(ptx::layouts(&String::from_utf8_lossy(text)));
    }
}

/// Little-endian integers at an offset; `None` past the end.
trait Bytes {
    fn u16_at(&self, offset: usize) -> Option<u16>;
    fn u32_at(&self, offset: usize) -> Option<u32>;
    fn u64_at(&self, offset: usize) -> Option<u64>;
    fn piece(&self, offset: u64, bytes: u64) -> Option<&[u8]>;
}

impl Bytes for [u8] {
    fn u16_at(&self, offset: usize) -> Option<u16> {
        self.get(offset..)?.first_chunk().copied().map(u16::from_le_bytes)
    }

    fn u32_at(&self, offset: usize) -> Option<u32> {
        self.get(offset..)?.first_chunk().copied().map(u32::from_le_bytes)
    }

    fn u64_at(&self, offset: usize) -> Option<u64> {
        self.get(offset..)?.first_chunk().copied().map(u64::from_le_bytes)
    }

    fn piece(&self, offset: u64, bytes: u64) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.get(start..)?.get(..usize::try_from(bytes).ok()?)
    }
}
