//! Memory that another process of the same VM opens. A handle holds a random
//! token that the VM's backend knows, and nothing else: in another VM it is
//! useless. A shareable descriptor is a memory file with such a token in it.
#![allow(unsafe_code, reason = "memory files")]

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use paravane_protocol::codec::Encoder;
use paravane_protocol::cuda_types::*;
use paravane_protocol::internal::SHARE_END;
use paravane_protocol::opcode;

use crate::boundary::Answer;
use crate::connection::with_ring;
use crate::state::current;
use crate::state::ranges::{self, Sort};
use crate::{handles, pointer};

/// Begins what a shareable descriptor holds.
const MAGIC: [u8; 8] = *b"PVSHARED";
const FILE_BYTES: usize = 24;

type Token = [u8; 16];

/// The bytes of a reply as a token.
fn token(bytes: &[u8]) -> Answer<Token> {
    bytes.try_into().map_err(|_| CUDA_ERROR_UNKNOWN)
}

pub(crate) fn cuIpcGetMemHandle(into: *mut CUipcHandle, dptr: CUdeviceptr) -> Answer {
    if into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // A handle is of the whole allocation.
    let start = ranges::find(dptr.0).map_or(dptr.0, |range| range.start);
    handle_for(into, opcode::cuIpcGetMemHandle, dptr.0, start)
}

pub(crate) fn cuIpcGetEventHandle(into: *mut CUipcHandle, event: CUevent) -> Answer {
    if into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    handle_for(into, opcode::cuIpcGetEventHandle, event.0, event.0)
}

/// Asks for a token for something and makes a handle of it, which is good until
/// what has the number `key` is gone.
fn handle_for(into: *mut CUipcHandle, opcode: u16, of: u64, key: u64) -> Answer {
    let token = with_ring(|ring| {
        ring.call(
            opcode,
            |to| {
                to.word(of);
                Ok(())
            },
            |from| token(from.bytes()),
        )
    })??;
    SHARED.lock().unwrap_or_else(PoisonError::into_inner).insert(key, token);
    let mut handle = CUipcHandle { bytes: [0; 64] };
    handle.bytes[..token.len()].copy_from_slice(&token);
    pointer::put(into, handle)
}

/// Tokens of handles that were given away, by device address or event.
static SHARED: Mutex<BTreeMap<u64, Token>> = Mutex::new(BTreeMap::new());

/// Memory or an event is gone: nobody opens it any more.
pub(crate) fn end_share(of: u64) -> Answer {
    let Some(token) = SHARED.lock().unwrap_or_else(PoisonError::into_inner).remove(&of) else { return Ok(()) };
    with_ring(|ring| {
        ring.post(SHARE_END, |to| {
            to.bytes(&token);
            Ok(())
        })
    })
}

/// The token of a handle; CUDA_ERROR_INVALID_VALUE for what is no handle.
fn token_of(handle: &CUipcHandle) -> Answer<Token> {
    let (token, rest) = handle.bytes.split_at(16);
    if rest.iter().any(|byte| *byte != 0) {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    token.try_into().map_err(|_| CUDA_ERROR_INVALID_VALUE)
}

pub(crate) fn cuIpcOpenEventHandle(into: *mut CUevent, handle: CUipcHandle) -> Answer {
    current::context()?;
    let token = token_of(&handle)?;
    if into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let id: CUevent = handles::mint()?;
    let opened = with_ring(|ring| {
        ring.call(
            opcode::cuIpcOpenEventHandle,
            |to| {
                to.word(id.0);
                to.bytes(&token);
                Ok(())
            },
            |_| (),
        )
    });
    if let Err(error) = opened {
        handles::release(id);
        return Err(error);
    }
    pointer::put(into, id)
}

pub(crate) fn cuIpcOpenMemHandle_v2(into: *mut CUdeviceptr, handle: CUipcHandle, flags: u32) -> Answer {
    current::context()?;
    let token = &token_of(&handle)?;
    let encode = |to: &mut Encoder| {
        to.bytes(token);
        to.word(u64::from(flags));
    };
    opened(opcode::cuIpcOpenMemHandle_v2, into, Sort::Opened, encode)
}

/// A memory file that holds a token.
fn file_of(token: Token) -> Option<OwnedFd> {
    // SAFETY: a C string; the call makes a descriptor.
    let fd = unsafe { libc::memfd_create(c"paravane-shared".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return None;
    }
    // SAFETY: just made, and owned by nobody else.
    let file = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut bytes = [0; FILE_BYTES];
    bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
    bytes[MAGIC.len()..].copy_from_slice(&token);
    // SAFETY: the bytes are a local's.
    let written = unsafe { libc::write(file.as_raw_fd(), bytes.as_ptr().cast(), FILE_BYTES) };
    (usize::try_from(written) == Ok(FILE_BYTES)).then_some(file)
}

/// The token in a descriptor that [`file_of`] has made, in whatever process.
fn token_in(fd: i32) -> Option<Token> {
    let mut bytes = [0; FILE_BYTES];
    // SAFETY: writes to a local of that length; a number that is no descriptor is an error.
    let read = unsafe { libc::pread(fd, bytes.as_mut_ptr().cast(), FILE_BYTES, 0) };
    let (magic, token) = bytes.split_first_chunk::<8>()?;
    (usize::try_from(read) == Ok(FILE_BYTES) && *magic == MAGIC).then(|| token.try_into().ok())?
}

/// Asks for a descriptor of something and gives the program a file with its token.
fn export(opcode: u16, into: Pointer, of: u64, kind: CUmemAllocationHandleType, flags: u64) -> Answer {
    if into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let token = with_ring(|ring| {
        ring.call(
            opcode,
            |to| {
                to.word(of);
                to.word(kind.to_word());
                to.word(flags);
                Ok(())
            },
            |from| token(from.bytes()),
        )
    })??;
    let file = file_of(token).ok_or(CUDA_ERROR_OPERATING_SYSTEM)?;
    pointer::put(into.cast::<i32>(), file.into_raw_fd())
}

pub(crate) fn cuMemExportToShareableHandle(
    into: Pointer,
    handle: CUmemGenericAllocationHandle,
    kind: CUmemAllocationHandleType,
    flags: u64,
) -> Answer {
    export(opcode::cuMemExportToShareableHandle, into, handle.0, kind, flags)
}

pub(crate) fn cuMemPoolExportToShareableHandle(
    into: Pointer,
    pool: CUmemoryPool,
    kind: CUmemAllocationHandleType,
    flags: u64,
) -> Answer {
    export(opcode::cuMemPoolExportToShareableHandle, into, pool.0, kind, flags)
}

/// What the program's descriptor names, under a new id.
fn import<H: Handle + Word>(opcode: u16, into: *mut H, shared: Pointer, kind: CUmemAllocationHandleType) -> Answer {
    if into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if kind != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR {
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    let fd = i32::try_from(shared as usize).map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
    let token = token_in(fd).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let id: H = handles::mint()?;
    let imported = with_ring(|ring| {
        ring.call(
            opcode,
            |to| {
                to.word(id.to_word());
                to.bytes(&token);
                Ok(())
            },
            |_| (),
        )
    });
    if let Err(error) = imported {
        handles::release(id);
        return Err(error);
    }
    pointer::put(into, id)
}

pub(crate) fn cuMemImportFromShareableHandle(
    into: *mut CUmemGenericAllocationHandle,
    shared: Pointer,
    kind: CUmemAllocationHandleType,
) -> Answer {
    import(opcode::cuMemImportFromShareableHandle, into, shared, kind)
}

pub(crate) fn cuMemPoolImportFromShareableHandle(
    into: *mut CUmemoryPool,
    shared: Pointer,
    kind: CUmemAllocationHandleType,
    flags: u64,
) -> Answer {
    if flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    import(opcode::cuMemPoolImportFromShareableHandle, into, shared, kind)
}

pub(crate) fn cuMemPoolExportPointer(into: *mut CUmemPoolPtrExportData, dptr: CUdeviceptr) -> Answer {
    if into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    handle_for(into, opcode::cuMemPoolExportPointer, dptr.0, dptr.0)
}

pub(crate) fn cuMemPoolImportPointer(
    into: *mut CUdeviceptr,
    pool: CUmemoryPool,
    data: *mut CUmemPoolPtrExportData,
) -> Answer {
    current::context()?;
    let token = &token_of(&pointer::get(data)?)?;
    let encode = |to: &mut Encoder| {
        to.word(pool.0);
        to.bytes(token);
    };
    opened(opcode::cuMemPoolImportPointer, into, Sort::Pool(pool.0), encode)
}

/// Memory of another process is mapped; remembers where it is.
fn opened(opcode: u16, into: *mut CUdeviceptr, sort: Sort, encode: impl FnOnce(&mut Encoder)) -> Answer {
    if into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let (address, bytes) = with_ring(|ring| {
        ring.call(
            opcode,
            |to| {
                encode(to);
                Ok(())
            },
            |from| (from.word(), from.word()),
        )
    })?;
    ranges::insert_sort(address, bytes, sort);
    pointer::put(into, CUdeviceptr(address))
}
