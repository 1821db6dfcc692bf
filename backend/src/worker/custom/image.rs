//! Loading the image that arrived by IMAGE_BEGIN and IMAGE_PIECE. The load's
//! own result is in the reply beside the compiler's log.

use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::REPLY_BYTES_MAX;

use crate::worker::dispatch::Command;
use crate::worker::handles::Belongs;
use crate::worker::layout::fatbin::starts;
use crate::worker::libcuda::{Answer, cuda};

/// JIT options whose value is a number and which mean something here: register
/// limit, optimisation, target, debug information, log verbosity, caching.
pub(super) fn is_number(option: u32) -> bool {
    matches!(option, 0 | 7..=15)
}

/// Most JIT options of one load; cuda.h defines fewer than 40.
pub(super) const OPTIONS_MAX: u64 = 64;

/// A load's arguments: id, room for the log, JIT options as pairs.
struct Load<H> {
    id: H,
    options: Vec<CUjit_option>,
    values: Vec<Pointer>,
    log: Vec<u8>,
    image: Vec<u8>,
    /// What leads to the image's fat binaries where there are several.
    wrapper: Option<Box<Wrapper>>,
}

/// The head of fat binaries that libcuda links.
#[repr(C)]
struct Wrapper {
    magic: u32,
    version: u32,
    first: *const u8,
    further: *const *const u8,
    /// What `further` points to; ends with NULL.
    list: Vec<*const u8>,
}

const WRAPPER_MAGIC: u32 = 0x4662_43b1;
const WRAPPER_TO_LINK: u32 = 2;

/// The wrapper of an image of several fat binaries, which must stay where it is.
fn wrapper(image: &[u8]) -> Option<Box<Wrapper>> {
    let starts = starts(image);
    let (first, further) = starts.split_first().filter(|(_, further)| !further.is_empty())?;
    let at = |start: &usize| image.as_ptr().wrapping_add(*start);
    let list: Vec<*const u8> = further.iter().map(at).chain([std::ptr::null()]).collect();
    let (first, further) = (at(first), list.as_ptr());
    Some(Box::new(Wrapper { magic: WRAPPER_MAGIC, version: WRAPPER_TO_LINK, first, further, list }))
}

impl<H: Handle> Load<H> {
    fn take(command: &mut Command) -> Answer<Self> {
        let id = H::from_number(command.from.word());
        let room = command.from.word().min(u64::from(REPLY_BYTES_MAX) - 64);
        let count = command.from.word();
        let (mut options, mut values) = (Vec::new(), Vec::new());
        for _ in 0..count.min(OPTIONS_MAX) {
            let (option, value) = (u32::from_word(command.from.word()), command.from.word());
            if is_number(option) {
                options.push(CUjit_option(option));
                values.push(value as Pointer);
            }
        }
        command.read_all()?;
        let mut image = std::mem::take(&mut command.thread.image);
        if image.len() as u64 != command.thread.image_bytes || image.is_empty() {
            command.thread.broke_protocol("a load without its image");
        }
        // Images say their own length; a text image must end in any case.
        image.extend([0; 16]);
        command.thread.process().handles.check_new(id)?;
        let log = vec![0; usize::from_word(room)];
        let wrapper = wrapper(&image);
        let mut load = Self { id, options, values, log, image, wrapper };
        load.want_log();
        Ok(load)
    }

    /// What libcuda is given.
    fn pointer(&mut self) -> Pointer {
        match &mut self.wrapper {
            Some(wrapper) => std::ptr::from_mut::<Wrapper>(wrapper).cast(),
            None => self.image.as_mut_ptr().cast(),
        }
    }

    fn want_log(&mut self) {
        if self.log.is_empty() {
            return;
        }
        self.options.extend([CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES]);
        self.values.push(self.log.as_mut_ptr().cast());
        self.values.push(self.log.len() as Pointer);
    }

    fn count(&self) -> u32 {
        u32::try_from(self.options.len()).unwrap_or(0)
    }

    /// Puts result and log into the reply, and the handle into its table.
    fn finish(self, command: &mut Command, result: Answer, native: H, context: u64) -> Answer {
        let code = result.err().unwrap_or(CUDA_SUCCESS);
        let written = self.log.iter().position(|byte| *byte == 0).unwrap_or(self.log.len());
        command.to.word(code.to_word());
        command.to.bytes(&self.log[..written]);
        if result.is_ok() {
            let belongs = Belongs { context, parent: 0 };
            let process = command.thread.process();
            process.handles.insert(self.id, native, belongs)?;
            if process.lib.cuFuncGetParamInfo.is_none() {
                process.images.loaded(self.id.number(), &self.image, &process.handles);
            }
        }
        Ok(())
    }
}

pub(in crate::worker) fn cuModuleLoadDataEx(command: &mut Command) -> Answer {
    let mut load = Load::<CUmodule>::take(command)?;
    let process = command.thread.process();
    let lib = &process.lib;
    let mut native = CUmodule(0);
    let result = cuda!(lib.cuModuleLoadDataEx(
        &raw mut native,
        load.pointer(),
        load.count(),
        load.options.as_mut_ptr(),
        load.values.as_mut_ptr(),
    ));
    let context = command.thread.context;
    load.finish(command, result, native, context)
}

pub(in crate::worker) fn cuLibraryLoadData(command: &mut Command) -> Answer {
    let mut load = Load::<CUlibrary>::take(command)?;
    let process = command.thread.process();
    let lib = &process.lib;
    let mut native = CUlibrary(0);
    let result = cuda!(lib.cuLibraryLoadData(
        &raw mut native,
        load.pointer(),
        load.options.as_mut_ptr(),
        load.values.as_mut_ptr(),
        load.count(),
        std::ptr::null_mut(),
        std::ptr::null_mut(),
        0,
    ));
    // A library belongs to no context.
    load.finish(command, result, native, 0)
}

#[cfg(test)]
mod tests {
    use paravane_protocol::limits::FATBIN_ALIGN;

    use super::*;
    use crate::worker::layout::fatbin::MAGIC;

    fn fatbin(behind: u8) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0, 16, 0, behind, 0, 0, 0, 0, 0, 0, 0]);
        bytes.resize(usize::from(16 + behind).next_multiple_of(FATBIN_ALIGN), 7);
        bytes
    }

    #[test]
    fn several_fat_binaries_are_found_and_wrapped() {
        let image = [fatbin(3), fatbin(8), vec![0; 16]].concat();
        assert_eq!(starts(&image), [0, 24]);
        let wrapper = wrapper(&image).unwrap();
        assert_eq!((wrapper.first, wrapper.list.len()), (image.as_ptr(), 2));
        assert_eq!(wrapper.list[0], image.as_ptr().wrapping_add(24));
        assert!(wrapper.list[1].is_null());
    }

    #[test]
    fn one_fat_binary_and_other_images_have_no_wrapper() {
        assert!(wrapper(&[fatbin(8), vec![0; 16]].concat()).is_none());
        assert!(wrapper(b".version 8.0\n\0").is_none());
        assert!(wrapper(&[]).is_none());
        let mut endless = fatbin(0);
        endless[6] = 0; // a header of no bytes, and nothing behind it
        assert_eq!(starts(&endless), [0]);
        endless[8..16].fill(0xff);
        assert_eq!(starts(&endless), [0]);
    }
}
