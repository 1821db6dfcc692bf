//! Linking: the inputs arrive as images do, the linked image goes back by
//! LINK_PIECE. The library writes its log into a buffer that lives as long as
//! the link; every step's reply carries it beside the step's own result.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::{IMAGE_BYTES_MAX, STAGING_SLOT_BYTES};
use paravane_protocol::shared::Shared;

use super::image::{OPTIONS_MAX, is_number};
use crate::worker::dispatch::Command;
use crate::worker::handles::Belongs;
use crate::worker::libcuda::{Answer, cuda};

/// Bytes of a link's log: half of a reply.
const LOG_BYTES: usize = 2048;

/// What a link keeps here beside the library's own state.
struct Link {
    log: Box<[u8]>,
    /// The linked image's bytes, copied when it was complete.
    image: Vec<u8>,
}

/// The links of one guest process, by the guest's ids.
#[derive(Default)]
pub(in crate::worker) struct Links(Mutex<HashMap<u64, Arc<Mutex<Link>>>>);

impl Links {
    fn get(&self, id: CUlinkState) -> Answer<Arc<Mutex<Link>>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&id.0).cloned().ok_or(CUDA_ERROR_INVALID_HANDLE)
    }
}

/// Numeric JIT options as the guest sent them.
fn take_options(command: &mut Command) -> (Vec<CUjit_option>, Vec<Pointer>) {
    let (mut options, mut values) = (Vec::new(), Vec::new());
    for _ in 0..command.from.word().min(OPTIONS_MAX) {
        let (option, value) = (u32::from_word(command.from.word()), command.from.word());
        if is_number(option) {
            options.push(CUjit_option(option));
            values.push(value as Pointer);
        }
    }
    (options, values)
}

fn count<T>(of: &[T]) -> u32 {
    u32::try_from(of.len()).unwrap_or(0)
}

/// In: id, options.
pub(in crate::worker) fn cuLinkCreate_v2(command: &mut Command) -> Answer {
    let id = CUlinkState(command.from.word());
    let (mut options, mut values) = take_options(command);
    command.read_all()?;
    let process = command.thread.process();
    process.handles.check_new(id)?;
    let mut link = Link { log: vec![0; LOG_BYTES].into_boxed_slice(), image: Vec::new() };
    options.extend([CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES]);
    values.extend([link.log.as_mut_ptr().cast(), LOG_BYTES as Pointer]);
    let lib = &process.lib;
    let mut native = CUlinkState(0);
    cuda!(lib.cuLinkCreate_v2(count(&options), options.as_mut_ptr(), values.as_mut_ptr(), &raw mut native))?;
    let mut all = process.links.0.lock().unwrap_or_else(PoisonError::into_inner);
    all.insert(id.0, Arc::new(Mutex::new(link)));
    process.handles.insert(id, native, Belongs { context: command.thread.home(), parent: 0 })
}

/// Puts a step's result and the log into the reply.
fn tell(command: &mut Command, link: &Link, result: Answer) {
    let written = link.log.iter().position(|byte| *byte == 0).unwrap_or(link.log.len());
    command.to.word(result.err().unwrap_or(CUDA_SUCCESS).to_word());
    command.to.bytes(&link.log[..written]);
}

/// In: id, kind, name, options; the input by IMAGE_PIECE.
pub(in crate::worker) fn cuLinkAddData_v2(command: &mut Command) -> Answer {
    let id = CUlinkState(command.from.word());
    let kind = CUjitInputType::from_word(command.from.word());
    let name = command.from.bytes();
    let (mut options, mut values) = take_options(command);
    command.read_all()?;
    let mut image = std::mem::take(&mut command.thread.image);
    if image.len() as u64 != command.thread.image_bytes || image.is_empty() || name.last() != Some(&0) {
        command.thread.broke_protocol("an input of a link without its bytes");
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let size = image.len();
    // A text that comes without its end gets one.
    image.push(0);
    let process = command.thread.process();
    let (native, link) = (process.handles.resolve(id)?, process.links.get(id)?);
    let link = link.lock().unwrap_or_else(PoisonError::into_inner);
    let lib = &process.lib;
    let result = cuda!(lib.cuLinkAddData_v2(
        native,
        kind,
        image.as_mut_ptr().cast(),
        size,
        name.as_ptr().cast(),
        count(&options),
        options.as_mut_ptr(),
        values.as_mut_ptr(),
    ));
    tell(command, &link, result);
    Ok(())
}

/// In: id. Reply: result, log, size of the linked image.
pub(in crate::worker) fn cuLinkComplete(command: &mut Command) -> Answer {
    let id = CUlinkState(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    let (native, link) = (process.handles.resolve(id)?, process.links.get(id)?);
    let mut link = link.lock().unwrap_or_else(PoisonError::into_inner);
    let lib = &process.lib;
    let (mut at, mut size) = (std::ptr::null_mut(), 0);
    let mut result = cuda!(lib.cuLinkComplete(native, &raw mut at, &raw mut size));
    if result.is_ok() && (at.is_null() || size as u64 > IMAGE_BYTES_MAX) {
        result = Err(CUDA_ERROR_INVALID_IMAGE);
    }
    if result.is_ok() {
        link.image = copy(at, size);
    }
    tell(command, &link, result);
    command.to.word(size as u64);
    Ok(())
}

#[allow(unsafe_code, reason = "the library's linked image is a pointer")]
fn copy(at: Pointer, size: usize) -> Vec<u8> {
    // SAFETY: the library gave the address and its size, valid until the link is destroyed.
    unsafe { std::slice::from_raw_parts(at.cast::<u8>(), size) }.to_vec()
}

/// LINK_PIECE. In: id, offset in the image, area, offset in it, bytes.
pub(in crate::worker) fn link_piece(command: &mut Command) -> Answer {
    let id = CUlinkState(command.from.word());
    let from = command.from.word();
    let area = u16::try_from(command.from.word()).map_err(|_| CUDA_ERROR_INVALID_VALUE);
    let (offset, bytes) = (command.from.word(), command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    let mapping = process.areas.mapped(area?).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let link = process.links.get(id)?;
    let link = link.lock().unwrap_or_else(PoisonError::into_inner);
    let start = usize::try_from(from).map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
    let length = usize::try_from(bytes.min(u64::from(STAGING_SLOT_BYTES))).unwrap_or(0);
    let piece = start.checked_add(length).and_then(|end| link.image.get(start..end));
    let piece = piece.ok_or(CUDA_ERROR_INVALID_VALUE)?;
    mapping.address(offset, piece.len() as u64).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    mapping.pages().write(usize::from_word(offset), piece);
    Ok(())
}

/// In: id.
pub(in crate::worker) fn cuLinkDestroy(command: &mut Command) -> Answer {
    let id = CUlinkState(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    let native = process.handles.resolve(id)?;
    let lib = &process.lib;
    let result = cuda!(lib.cuLinkDestroy(native));
    process.handles.remove(id);
    process.links.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id.0);
    result
}
