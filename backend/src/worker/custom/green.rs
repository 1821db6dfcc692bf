//! Green contexts as far as a row alone does not do it: splits, whose number of results libcuda decides,
//! and the context that stands for a green one.

use paravane_protocol::codec::Decoder;
use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::SM_GROUPS_MAX;
use zerocopy::{FromBytes, IntoBytes};

use crate::worker::arg::Element;
use crate::worker::dispatch::Command;
use crate::worker::handles::Belongs;
use crate::worker::libcuda::{Answer, cuda};

/// Of a resource's union, as far as CUDA names it.
const TOLD_BYTES: usize = 24;

/// A structure in a frame; one of another size breaks the protocol.
fn structures<T: FromBytes>(from: &mut Decoder) -> Answer<Vec<T>> {
    let bytes = from.bytes();
    let read = |raw: &[u8]| T::read_from_bytes(raw).map_err(|_| CUDA_ERROR_INVALID_VALUE);
    let all: Answer<Vec<T>> = bytes.chunks(size_of::<T>()).map(read).collect();
    all.inspect_err(|_| from.fail())
}

fn resource(from: &mut Decoder) -> Answer<CUdevResource> {
    structures(from)?.pop().ok_or_else(|| {
        from.fail();
        CUDA_ERROR_INVALID_VALUE
    })
}

/// Room for libcuda's results, and where it is; NULL where none are wanted.
fn room(wanted: bool, count: u32) -> Answer<(Vec<CUdevResource>, *mut CUdevResource)> {
    if count > SM_GROUPS_MAX {
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    let mut room = vec![CUdevResource::default(); count as usize];
    let at = if wanted { room.as_mut_ptr() } else { std::ptr::null_mut() };
    Ok((room, at))
}

/// The reply's end: name and value of each resource; the name of none is 0.
fn tell(command: &mut Command, all: &[CUdevResource]) -> Answer {
    let process = command.thread.process();
    for native in all {
        let told = native.tell(&process.handles)?;
        command.to.word(told.name());
        command.to.bytes(told.value.as_bytes().first_chunk::<TOLD_BYTES>().unwrap_or(&[0; TOLD_BYTES]));
    }
    Ok(())
}

/// In: resource, whether results are wanted, how many at most, whether the rest is, flags, least count.
/// Reply: how many parts; where wanted, they, then the rest.
pub(in crate::worker) fn cuDevSmResourceSplitByCount(command: &mut Command) -> Answer {
    let input = resource(&mut command.from);
    let wanted = command.from.word() != 0;
    let most = u32::from_word(command.from.word());
    let rest_wanted = command.from.word() != 0;
    let (flags, least) = (u32::from_word(command.from.word()), u32::from_word(command.from.word()));
    command.read_all()?;
    let process = command.thread.process();
    let input = input?.resolve(&process.handles)?;
    let mut count = if wanted { most.min(SM_GROUPS_MAX) } else { most };
    let (parts, at) = room(wanted, if wanted { count } else { 0 })?;
    let mut rest = CUdevResource::default();
    let rest_at = if rest_wanted { &raw mut rest } else { std::ptr::null_mut() };
    let lib = &process.lib;
    cuda!(lib.cuDevSmResourceSplitByCount(at, &raw mut count, &raw const input, rest_at, flags, least))?;
    command.to.word(u64::from(count));
    tell(command, parts.get(..count as usize).unwrap_or(&[]))?;
    tell(command, if rest_wanted { std::slice::from_ref(&rest) } else { &[] })
}

/// In: resource, whether results are wanted, whether the rest is, flags, what each part is to be. Reply:
/// how many multiprocessors each has; where wanted, the parts, then the rest.
pub(in crate::worker) fn cuDevSmResourceSplit(command: &mut Command) -> Answer {
    let input = resource(&mut command.from);
    let wanted = command.from.word() != 0;
    let rest_wanted = command.from.word() != 0;
    let flags = u32::from_word(command.from.word());
    let asked: Answer<Vec<CU_DEV_SM_RESOURCE_GROUP_PARAMS>> = structures(&mut command.from);
    command.read_all()?;
    let process = command.thread.process();
    let input = input?.resolve(&process.handles)?;
    let mut asked = asked?;
    let count = u32::try_from(asked.len()).map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
    let (parts, at) = room(wanted, count)?;
    let mut rest = CUdevResource::default();
    let rest_at = if rest_wanted { &raw mut rest } else { std::ptr::null_mut() };
    let lib = &process.lib;
    cuda!(lib.cuDevSmResourceSplit(at, count, &raw const input, rest_at, flags, asked.as_mut_ptr()))?;
    for group in &asked {
        command.to.word(u64::from(group.smCount));
    }
    tell(command, if wanted { &parts } else { &[] })?;
    tell(command, if rest_wanted { std::slice::from_ref(&rest) } else { &[] })
}

/// In: id for the context, green context, its primary context.
pub(in crate::worker) fn cuCtxFromGreenCtx(command: &mut Command) -> Answer {
    let id = CUcontext(command.from.word());
    let green = CUgreenCtx(command.from.word());
    let primary = CUcontext(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    process.handles.check_new(id)?;
    process.handles.resolve(primary)?;
    let native_green = process.handles.resolve(green)?;
    let lib = &process.lib;
    let mut native = CUcontext(0);
    cuda!(lib.cuCtxFromGreenCtx(&raw mut native, native_green))?;
    process.handles.insert(id, native, Belongs { context: primary.0, parent: green.0 })
}
