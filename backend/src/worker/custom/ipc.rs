//! Memory of one guest process in another of the same VM. What the guest holds
//! is a token; libcuda's own handle, and a descriptor where there is one, lie
//! with the backend and never leave the host.
#![allow(unsafe_code, reason = "foreign functions and descriptors that they make")]

use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

use paravane_protocol::codec::Decoder;
use paravane_protocol::cuda_types::*;

use crate::control::Share;
use crate::worker::dispatch::Command;
use crate::worker::handles::Belongs;
use crate::worker::libcuda::{Answer, Libcuda, cuda};

/// A token in a frame; a run of another length breaks the protocol.
fn token(from: &mut Decoder) -> Answer<[u8; 16]> {
    from.bytes().try_into().map_err(|_| {
        from.fail();
        CUDA_ERROR_INVALID_VALUE
    })
}

fn owned(fd: i32) -> Option<OwnedFd> {
    // SAFETY: libcuda hands the descriptor over.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// In: device address. Reply: token.
pub(in crate::worker) fn cuIpcGetMemHandle(command: &mut Command) -> Answer {
    let address = CUdeviceptr(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    let lib = &process.lib;
    let mut handle = CUipcHandle { bytes: [0; 64] };
    cuda!(lib.cuIpcGetMemHandle(&raw mut handle, address))?;
    share(command, &handle)
}

/// Files libcuda's handle, and its descriptor where it needs one carried.
fn share(command: &mut Command, handle: &CUipcHandle) -> Answer {
    let process = command.thread.process();
    let lib = &process.lib;
    let file = lib.ipc_file.and_then(|file| {
        // SAFETY: cpu-driver's contract: reads the handle, gives a descriptor.
        owned(unsafe { file(handle) })
    });
    let token = process.exchange.share(process.control(), handle.bytes, file)?;
    command.to.bytes(&token);
    Ok(())
}

/// In: token.
pub(in crate::worker) fn share_end(command: &mut Command) -> Answer {
    let token = token(&mut command.from);
    command.read_all()?;
    let process = command.thread.process();
    process.exchange.withdraw(process.control(), token?);
    Ok(())
}

/// Libcuda's handle under a token, ready to be opened.
fn seek(command: &Command, token: [u8; 16]) -> Answer<CUipcHandle> {
    let process = command.thread.process();
    let lib = &process.lib;
    let Share { bytes, file, .. } = process.exchange.seek(process.control(), token)?;
    let handle = CUipcHandle { bytes };
    if let (Some(adopt), Some(file)) = (lib.ipc_adopt, file) {
        // SAFETY: cpu-driver's contract: takes the descriptor over.
        unsafe { adopt(&raw const handle, file.into_raw_fd()) }.ok()?;
    }
    Ok(handle)
}

/// In: event. Reply: token.
pub(in crate::worker) fn cuIpcGetEventHandle(command: &mut Command) -> Answer {
    let event = CUevent(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    let native = process.handles.resolve(event)?;
    let lib = &process.lib;
    let mut handle = CUipcHandle { bytes: [0; 64] };
    cuda!(lib.cuIpcGetEventHandle(&raw mut handle, native))?;
    share(command, &handle)
}

/// In: id, token.
pub(in crate::worker) fn cuIpcOpenEventHandle(command: &mut Command) -> Answer {
    let id = CUevent(command.from.word());
    let token = token(&mut command.from);
    command.read_all()?;
    let process = command.thread.process();
    process.handles.check_new(id)?;
    let handle = seek(command, token?)?;
    let lib = &process.lib;
    let mut native = CUevent(0);
    cuda!(lib.cuIpcOpenEventHandle(&raw mut native, handle))?;
    let belongs = Belongs { context: command.thread.home(), parent: 0 };
    process.handles.insert(id, native, belongs)
}

/// In: token, flags. Reply: device address, bytes.
pub(in crate::worker) fn cuIpcOpenMemHandle_v2(command: &mut Command) -> Answer {
    let token = token(&mut command.from);
    let flags = u32::from_word(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    let lib = &process.lib;
    let handle = seek(command, token?)?;
    let mut address = CUdeviceptr(0);
    cuda!(lib.cuIpcOpenMemHandle_v2(&raw mut address, handle, flags))?;
    tell_opened(command, address)
}

/// Reply: device address, bytes of the allocation there.
fn tell_opened(command: &mut Command, address: CUdeviceptr) -> Answer {
    let process = command.thread.process();
    let lib = &process.lib;
    let (mut base, mut size) = (CUdeviceptr(0), 0);
    cuda!(lib.cuMemGetAddressRange_v2(&raw mut base, &raw mut size, address))?;
    command.to.word(address.0);
    command.to.word(size as u64);
    Ok(())
}

/// Files a descriptor that libcuda makes of something. Reply: token.
fn share_descriptor(
    command: &mut Command,
    kind: CUmemAllocationHandleType,
    export: impl FnOnce(Pointer) -> Answer,
) -> Answer {
    if kind != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR {
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    let mut fd = -1_i32;
    export((&raw mut fd).cast())?;
    let file = Some(owned(fd).ok_or(CUDA_ERROR_UNKNOWN)?);
    let process = command.thread.process();
    let token = process.exchange.share(process.control(), [0; 64], file)?;
    command.to.bytes(&token);
    Ok(())
}

/// In: allocation's id, handle type, flags. Reply: token.
pub(in crate::worker) fn cuMemExportToShareableHandle(command: &mut Command) -> Answer {
    let id = CUmemGenericAllocationHandle(command.from.word());
    let kind = CUmemAllocationHandleType(u32::from_word(command.from.word()));
    let flags = command.from.word();
    command.read_all()?;
    let process = command.thread.process();
    let (native, lib) = (process.handles.resolve(id)?, &process.lib);
    share_descriptor(command, kind, |fd| cuda!(lib.cuMemExportToShareableHandle(fd, native, kind, flags)))
}

/// In: pool, handle type, flags. Reply: token.
pub(in crate::worker) fn cuMemPoolExportToShareableHandle(command: &mut Command) -> Answer {
    let id = CUmemoryPool(command.from.word());
    let kind = CUmemAllocationHandleType(u32::from_word(command.from.word()));
    let flags = command.from.word();
    command.read_all()?;
    let process = command.thread.process();
    let (native, lib) = (process.handles.resolve(id)?, &process.lib);
    share_descriptor(command, kind, |fd| cuda!(lib.cuMemPoolExportToShareableHandle(fd, native, kind, flags)))
}

/// What another worker has filed a descriptor of, under an id that the guest chose. In: id, token.
fn import<H: Handle + Word>(command: &mut Command, import: impl FnOnce(&Libcuda, *mut H, Pointer) -> Answer) -> Answer {
    let id = H::from_word(command.from.word());
    let token = token(&mut command.from);
    command.read_all()?;
    let process = command.thread.process();
    process.handles.check_new(id)?;
    let share = process.exchange.seek(process.control(), token?)?;
    let file = share.file.ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let fd = usize::try_from(file.as_raw_fd()).map_err(|_| CUDA_ERROR_UNKNOWN)?;
    let mut native = H::from_number(0);
    import(&process.lib, &raw mut native, fd as Pointer)?;
    process.handles.insert(id, native, Belongs::default())
}

/// In: id, token.
pub(in crate::worker) fn cuMemImportFromShareableHandle(command: &mut Command) -> Answer {
    let kind = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    import(command, |lib, into, fd| cuda!(lib.cuMemImportFromShareableHandle(into, fd, kind)))
}

/// In: id, token.
pub(in crate::worker) fn cuMemPoolImportFromShareableHandle(command: &mut Command) -> Answer {
    let kind = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    import(command, |lib, into, fd| cuda!(lib.cuMemPoolImportFromShareableHandle(into, fd, kind, 0)))
}

/// In: device address. Reply: token.
pub(in crate::worker) fn cuMemPoolExportPointer(command: &mut Command) -> Answer {
    let address = CUdeviceptr(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    let lib = &process.lib;
    let mut data = CUmemPoolPtrExportData { bytes: [0; 64] };
    cuda!(lib.cuMemPoolExportPointer(&raw mut data, address))?;
    share(command, &data)
}

/// In: pool, token. Reply: device address, bytes.
pub(in crate::worker) fn cuMemPoolImportPointer(command: &mut Command) -> Answer {
    let pool = CUmemoryPool(command.from.word());
    let token = token(&mut command.from);
    command.read_all()?;
    let process = command.thread.process();
    let (pool, lib) = (process.handles.resolve(pool)?, &process.lib);
    let mut data = seek(command, token?)?;
    let mut address = CUdeviceptr(0);
    cuda!(lib.cuMemPoolImportPointer(&raw mut address, pool, &raw mut data))?;
    tell_opened(command, address)
}
