//! Parts of a device's multiprocessors: splits, and the context that stands for a green one.

use paravane_protocol::codec::Decoder;
use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::SM_GROUPS_MAX;
use paravane_protocol::opcode;
use zerocopy::IntoBytes;

use crate::boundary::Answer;
use crate::connection::with_ring;
use crate::state::{devices, objects};
use crate::{handles, pointer, wrap};

/// A part of multiprocessors, or none, as the worker tells it.
fn told(from: &mut Decoder) -> CUdevResource {
    let name = from.word();
    let (words, _) = from.bytes().as_chunks();
    let mut value = [0; 10];
    value.iter_mut().zip(words).for_each(|(word, raw)| *word = u32::from_le_bytes(*raw));
    if name == 0 { CUdevResource::default() } else { CUdevResource::named(CU_DEV_RESOURCE_TYPE_SM.0, name, value) }
}

/// What a split has made: how many multiprocessors each part has, or how many parts there are.
struct Split {
    counts: Vec<u64>,
    parts: Vec<CUdevResource>,
    rest: Option<CUdevResource>,
}

impl Split {
    fn read(from: &mut Decoder, counts: usize, parts: impl Fn(&[u64]) -> u64, rest_wanted: bool) -> Self {
        let counts: Vec<u64> = (0..counts).map(|_| from.word()).collect();
        let parts = (0..parts(&counts).min(u64::from(SM_GROUPS_MAX))).map(|_| told(from)).collect();
        let rest = rest_wanted.then(|| told(from));
        Self { counts, parts, rest }
    }

    fn put(&self, result: *mut CUdevResource, remainder: *mut CUdevResource) -> Answer {
        for (place, part) in self.parts.iter().enumerate() {
            pointer::put(result.wrapping_add(place), *part)?;
        }
        self.rest.map_or(Ok(()), |rest| pointer::put(remainder, rest))
    }
}

pub(crate) fn cuDevSmResourceSplitByCount(
    result: *mut CUdevResource,
    nbGroups: *mut u32,
    input: *const CUdevResource,
    remainder: *mut CUdevResource,
    flags: u32,
    minCount: u32,
) -> Answer {
    let (input, most) = (pointer::get(input)?, pointer::get(nbGroups)?);
    let (wanted, rest_wanted) = (!result.is_null(), !remainder.is_null());
    let split = with_ring(|ring| {
        ring.call(
            opcode::cuDevSmResourceSplitByCount,
            |to| {
                to.bytes(input.as_bytes());
                to.word(u64::from(wanted));
                to.word(u64::from(most));
                to.word(u64::from(rest_wanted));
                to.word(u64::from(flags));
                to.word(u64::from(minCount));
                Ok(())
            },
            |from| Split::read(from, 1, |count| if wanted { count[0].min(u64::from(most)) } else { 0 }, rest_wanted),
        )
    })?;
    split.put(result, remainder)?;
    pointer::put(nbGroups, split.counts.first().map_or(0, |count| u32::from_word(*count)))
}

pub(crate) fn cuDevSmResourceSplit(
    result: *mut CUdevResource,
    nbGroups: u32,
    input: *const CUdevResource,
    remainder: *mut CUdevResource,
    flags: u32,
    groupParams: *mut CU_DEV_SM_RESOURCE_GROUP_PARAMS,
) -> Answer {
    if nbGroups > SM_GROUPS_MAX {
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    let (input, count) = (pointer::get(input)?, nbGroups as usize);
    let (wanted, rest_wanted) = (!result.is_null(), !remainder.is_null());
    let bytes = count * size_of::<CU_DEV_SM_RESOURCE_GROUP_PARAMS>();
    let asked = pointer::bytes(groupParams.cast_const().cast(), bytes)?;
    let split = with_ring(|ring| {
        ring.call(
            opcode::cuDevSmResourceSplit,
            |to| {
                to.bytes(input.as_bytes());
                to.word(u64::from(wanted));
                to.word(u64::from(rest_wanted));
                to.word(u64::from(flags));
                to.bytes(asked);
                Ok(())
            },
            |from| Split::read(from, count, |_| if wanted { u64::from(nbGroups) } else { 0 }, rest_wanted),
        )
    })?;
    split.put(result, remainder)?;
    for (place, has) in split.counts.iter().enumerate() {
        let at = groupParams.wrapping_add(place);
        let asked = pointer::get(at.cast_const())?;
        pointer::put(at, CU_DEV_SM_RESOURCE_GROUP_PARAMS { smCount: u32::from_word(*has), ..asked })?;
    }
    Ok(())
}

/// The same context for a green one at every call.
pub(crate) fn cuCtxFromGreenCtx(into: *mut CUcontext, green: CUgreenCtx) -> Answer {
    let dev = wrap::device_of(green)?;
    if into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if let Some(known) = objects::GREEN_CONTEXT.get(green.0) {
        return pointer::put(into, CUcontext(known));
    }
    let primary = devices::device(dev)?.primary;
    let context: CUcontext = handles::mint()?;
    let asked = with_ring(|ring| {
        ring.call(
            opcode::cuCtxFromGreenCtx,
            |to| {
                to.word(context.0);
                to.word(green.0);
                to.word(primary.0);
                Ok(())
            },
            |_| (),
        )
    });
    if let Err(error) = asked {
        handles::release(context);
        return Err(error);
    }
    devices::remember_context(context, dev);
    objects::GREEN_CONTEXT.insert(green.0, context.0);
    objects::CONTEXT_GREEN.insert(context.0, green.0);
    pointer::put(into, context)
}
