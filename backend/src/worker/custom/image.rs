//! Loading the image that arrived by IMAGE_BEGIN and IMAGE_PIECE. The load's
//! own result is in the reply beside the compiler's log.

use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::REPLY_BYTES_MAX;

use crate::worker::dispatch::Command;
use crate::worker::handles::Belongs;
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
        let mut load = Self { id, options, values, log, image };
        load.want_log();
        Ok(load)
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
            command.thread.process().handles.insert(self.id, native, belongs)?;
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
        load.image.as_mut_ptr().cast(),
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
        load.image.as_mut_ptr().cast(),
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
