//! Loading images. They come without a length, so their own headers tell it
//! (cuda-interop: fatbin wrapper, fatbin, cubin ELF, NUL-terminated text). An
//! image travels through staging in pieces; its JIT log comes back in the reply.

use std::borrow::Cow;

use paravane_protocol::codec::Encoder;
use paravane_protocol::cuda_types::*;
use paravane_protocol::internal::{IMAGE_BEGIN, IMAGE_PIECE};
use paravane_protocol::limits::{FATBIN_ALIGN, IMAGE_BYTES_MAX, REPLY_BYTES_MAX};
use paravane_protocol::opcode;

use crate::boundary::Answer;
use crate::connection::{ThreadRing, with_ring};
use crate::state::staging::{self, SLOT, SLOTS, Staging};
use crate::{handles, pointer};

const WRAPPER_MAGIC: u32 = 0x4662_43b1;
const FATBIN_MAGIC: u32 = 0xba55_ed50;
/// Version of a wrapper that names fat binaries to be linked.
const WRAPPER_TO_LINK: u32 = 2;
/// A fat binary without entries.
const EMPTY_FATBIN: [u8; 16] = [0x50, 0xed, 0x55, 0xba, 1, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const ELF_MAGIC: u32 = u32::from_le_bytes(*b"\x7fELF");

/// The image's bytes, behind a fatbin wrapper if it has one.
fn image_bytes<'a>(image: Pointer) -> Answer<Cow<'a, [u8]>> {
    let first: u32 = pointer::get(image.cast())?;
    if first == WRAPPER_MAGIC {
        let version: u32 = pointer::element(image.cast::<u32>(), 1)?;
        let data: Pointer = pointer::element(image.cast::<Pointer>(), 1)?;
        let further: Pointer = pointer::element(image.cast::<Pointer>(), 2)?;
        if version == WRAPPER_TO_LINK && !further.is_null() {
            return to_link(data, further.cast()).map(Cow::Owned);
        }
        return plain_bytes(data).map(Cow::Borrowed);
    }
    plain_bytes(image).map(Cow::Borrowed)
}

/// Fat binaries that the driver links, one behind the other: the wrapper's own,
/// then those that a NULL ends. The host makes such a wrapper of them again.
fn to_link(first: Pointer, further: *const Pointer) -> Answer<Vec<u8>> {
    let mut all = if first.is_null() { EMPTY_FATBIN.to_vec() } else { plain_bytes(first)?.to_vec() };
    for index in 0.. {
        let next: Pointer = pointer::element(further, index)?;
        if next.is_null() {
            break;
        }
        all.resize(all.len().next_multiple_of(FATBIN_ALIGN), 0);
        all.extend_from_slice(plain_bytes(next)?);
        if all.len() as u64 > IMAGE_BYTES_MAX {
            return Err(CUDA_ERROR_INVALID_IMAGE);
        }
    }
    Ok(all)
}

/// The bytes of an image without wrapper.
fn plain_bytes<'a>(image: Pointer) -> Answer<&'a [u8]> {
    let first: u32 = pointer::get(image.cast())?;
    let len = match first {
        FATBIN_MAGIC => fatbin_len(image)?,
        ELF_MAGIC => elf_len(image)?,
        // Text: NUL-terminated; the NUL belongs to it.
        _ => pointer::string(image.cast())?.to_bytes_with_nul().len() as u64,
    };
    if len > IMAGE_BYTES_MAX {
        return Err(CUDA_ERROR_INVALID_IMAGE);
    }
    pointer::bytes(image.cast(), usize::try_from(len).map_err(|_| CUDA_ERROR_INVALID_IMAGE)?)
}

/// Header: u32 magic, u16 version, u16 header size, u64 bytes behind it.
fn fatbin_len(image: Pointer) -> Answer<u64> {
    let header: u16 = pointer::element(image.cast::<u16>(), 3)?;
    let behind: u64 = pointer::element(image.cast::<u64>(), 1)?;
    behind.checked_add(u64::from(header)).ok_or(CUDA_ERROR_INVALID_IMAGE)
}

/// An ELF image ends with its header tables or its last section, whichever
/// comes last (ELF-64 header: e_phoff 32, e_shoff 40, e_phentsize 54 …).
fn elf_len(image: Pointer) -> Answer<u64> {
    let half = |at: usize| -> Answer<u64> {
        Ok(u64::from(pointer::get(image.wrapping_byte_add(at).cast::<u16>())?))
    };
    let word = |at: usize| -> Answer<u64> { pointer::get(image.wrapping_byte_add(at).cast()) };
    let bad = CUDA_ERROR_INVALID_IMAGE;
    let programs_end = word(32)?.checked_add(half(54)? * half(56)?).ok_or(bad)?;
    let (sections, each, count) = (word(40)?, half(58)?, half(60)?);
    let sections_end = sections.checked_add(each * count).ok_or(bad)?;
    if sections_end > IMAGE_BYTES_MAX {
        return Err(bad);
    }
    const HEADER: u64 = 64;
    let mut end = programs_end.max(sections_end).max(HEADER);
    const NO_BITS: u32 = 8;
    for number in 0..count {
        let at = usize::try_from(sections + number * each).map_err(|_| bad)?;
        let kind: u32 = pointer::get(image.wrapping_byte_add(at + 4).cast())?;
        if kind != NO_BITS {
            end = end.max(word(at + 24)?.checked_add(word(at + 32)?).ok_or(bad)?);
        }
    }
    Ok(end)
}

/// Brings an image to the worker.
pub(super) fn send_image(ring: &mut ThreadRing, image: &[u8]) -> Answer {
    ring.call(
        IMAGE_BEGIN,
        |to| {
            to.word(image.len() as u64);
            Ok(())
        },
        |_| (),
    )?;
    let mut staging = staging::take(ring)?;
    for (number, piece) in image.chunks(SLOT).enumerate() {
        let slot = number % SLOTS;
        staging.wait(ring, slot)?;
        staging.bytes(slot, piece.len())?.copy_from_slice(piece);
        ring.post(IMAGE_PIECE, |to| {
            to.word((number * SLOT) as u64);
            to.word(u64::from(staging.area()));
            to.word(Staging::offset(slot) as u64);
            to.word(piece.len() as u64);
            Ok(())
        })?;
        staging.uses(ring, slot);
    }
    // The slots are free for others once the last piece is taken.
    ring.wait_done(ring.sent())
}

/// The JIT options of a load: numbers go to the host, log buffers stay here.
pub(super) struct JitOptions {
    numbers: Vec<(u32, u64)>,
    pub(super) error_log: Option<(*mut u8, usize)>,
}

impl JitOptions {
    pub(super) fn read(count: u32, options: *mut CUjit_option, values: Pointers) -> Answer<Self> {
        let mut read = Self { numbers: Vec::new(), error_log: None };
        let (mut buffer, mut size) = (std::ptr::null_mut(), 0);
        for index in 0..count as usize {
            let option = pointer::element(options.cast_const(), index)?;
            let value = pointer::element(values.cast_const(), index)?;
            match option {
                CU_JIT_ERROR_LOG_BUFFER => buffer = value.cast::<u8>(),
                CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES => size = value as usize,
                // The information log stays empty.
                CU_JIT_INFO_LOG_BUFFER | CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES => {}
                other => read.numbers.push((other.0, value as u64)),
            }
        }
        if !buffer.is_null() && size > 0 {
            read.error_log = Some((buffer, size));
        }
        Ok(read)
    }

    pub(super) fn encode(&self, to: &mut Encoder) {
        to.word(self.numbers.len() as u64);
        for (option, value) in &self.numbers {
            to.word(u64::from(*option));
            to.word(*value);
        }
    }

    fn put_log(&self, log: &[u8]) {
        if let Some((buffer, size)) = self.error_log {
            let len = i32::try_from(size).unwrap_or(i32::MAX);
            let _ = pointer::put_string(buffer, len, log);
        }
    }
}

/// Loads an image: the load's own result is in the reply beside the log, since
/// the log matters most when the load failed.
fn load<H: Handle>(opcode: u16, image: Pointer, options: &JitOptions) -> Answer<H> {
    let image = image_bytes(image)?;
    let id: H = handles::mint()?;
    let loaded = with_ring(|ring| {
        send_image(ring, &image)?;
        let log_room = u64::from(REPLY_BYTES_MAX) - 64;
        ring.call(
            opcode,
            |to| {
                to.word(id.number());
                to.word(log_room);
                options.encode(to);
                Ok(())
            },
            |from| {
                let result = CUresult::from_word(from.word());
                let log = from.bytes();
                options.put_log(log);
                result.ok().inspect_err(|error| tell_refusal(*error, &image, log))
            },
        )?
    });
    match loaded {
        Ok(()) => Ok(id),
        Err(error) => {
            handles::release(id);
            Err(error)
        }
    }
}

/// Says in the shim's log which image was refused and what it holds: programs seldom do.
fn tell_refusal(error: CUresult, image: &[u8], compiler_log: &[u8]) {
    let contents = paravane_lookup::image::contents(image);
    let said = String::from_utf8_lossy(compiler_log);
    log::warn!("{error}: an image of {} bytes was refused; it holds {contents}. {said}", image.len());
}

pub(crate) fn cuModuleLoadDataEx(
    module: *mut CUmodule,
    image: Pointer,
    count: u32,
    options: *mut CUjit_option,
    values: Pointers,
) -> Answer {
    if module.is_null() || image.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    crate::state::current::context()?;
    let options = JitOptions::read(count, options, values)?;
    pointer::put(module, load(opcode::cuModuleLoadDataEx, image, &options)?)
}

/// Library options (host universal function data, binary preserved) have no
/// meaning for a copy of the image in another process and are not sent.
#[allow(clippy::too_many_arguments, reason = "CUDA's prototype")]
pub(crate) fn cuLibraryLoadData(
    library: *mut CUlibrary,
    code: Pointer,
    jit: *mut CUjit_option,
    jit_values: Pointers,
    jit_count: u32,
    _: *mut CUlibraryOption,
    _: Pointers,
    _: u32,
) -> Answer {
    if library.is_null() || code.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let options = JitOptions::read(jit_count, jit, jit_values)?;
    pointer::put(library, load(opcode::cuLibraryLoadData, code, &options)?)
}
