//! Attributes of streams. Priorities order ready work; the others are hints to hardware that is not
//! here: they are checked and remembered.

use super::stream::GREATEST_PRIORITY;
use super::{Answer, any_stream as stream, give};
use crate::stream::Stream;
use paravane_protocol::cuda_types::{
    CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE, CUlaunchAttributeID, CUlaunchAttributeValue, CUstream, Word,
};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

const ACCESS_POLICY_WINDOW: u32 = 1;
const SYNCHRONIZATION_POLICY: u32 = 3;
const PRIORITY: u32 = 8;
const MEM_SYNC_DOMAIN_MAP: u32 = 9;
const MEM_SYNC_DOMAIN: u32 = 10;
const NVLINK_UTIL_CENTRIC_SCHEDULING: u32 = 16;

fn default(attribute: u32) -> Answer<CUlaunchAttributeValue> {
    let mut value = CUlaunchAttributeValue::default();
    match attribute {
        // CU_SYNC_POLICY_AUTO.
        SYNCHRONIZATION_POLICY => value.words[0] = 1,
        ACCESS_POLICY_WINDOW | MEM_SYNC_DOMAIN_MAP | MEM_SYNC_DOMAIN | NVLINK_UTIL_CENTRIC_SCHEDULING => {}
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    }
    Ok(value)
}

/// Whether a stream can have the attribute with this value.
fn check(attribute: u32, value: &CUlaunchAttributeValue) -> Answer {
    let [first, _, third, fourth, ..] = value.words;
    let low = u32::from_word(first);
    // The window: base, bytes, hit ratio and hit property, miss property.
    let ratio = f32::from_bits(u32::from_word(third));
    let (hit, miss) = (u32::from_word(third >> 32), u32::from_word(fourth));
    let is_fine = match attribute {
        ACCESS_POLICY_WINDOW => (0.0..=1.0).contains(&ratio) && hit <= 2 && miss <= 1,
        SYNCHRONIZATION_POLICY => (1..=4).contains(&low),
        // There is one domain, number 0.
        MEM_SYNC_DOMAIN_MAP => low & 0xffff == 0,
        MEM_SYNC_DOMAIN | NVLINK_UTIL_CENTRIC_SCHEDULING => low <= 1,
        _ => false,
    };
    if is_fine { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

fn set(stream: &Stream, attribute: u32, value: &CUlaunchAttributeValue) -> Answer {
    if attribute == PRIORITY {
        let priority = i32::from_word(value.words[0]);
        if !(GREATEST_PRIORITY..=0).contains(&priority) {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        stream.priority.store(priority, Ordering::Relaxed);
        return Ok(());
    }
    check(attribute, value)?;
    stream.attributes.lock().unwrap_or_else(PoisonError::into_inner).insert(attribute, *value);
    Ok(())
}

pub unsafe fn cuStreamSetAttribute(
    hStream: CUstream,
    attr: CUlaunchAttributeID,
    value: *const CUlaunchAttributeValue,
) -> Answer {
    let stream = stream(hStream)?;
    if value.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes a pointer to the union.
    set(&stream, attr.0, &unsafe { *value })
}

pub unsafe fn cuStreamGetAttribute(
    hStream: CUstream,
    attr: CUlaunchAttributeID,
    value_out: *mut CUlaunchAttributeValue,
) -> Answer {
    let stream = stream(hStream)?;
    let mut value = CUlaunchAttributeValue::default();
    if attr.0 == PRIORITY {
        value.words[0] = u64::from(stream.priority.load(Ordering::Relaxed).cast_unsigned());
        return give(value_out, value);
    }
    let known = stream.attributes.lock().unwrap_or_else(PoisonError::into_inner).get(&attr.0).copied();
    give(value_out, known.map_or_else(|| default(attr.0), Ok)?)
}

pub unsafe fn cuStreamCopyAttributes(dst: CUstream, src: CUstream) -> Answer {
    let (to, from) = (stream(dst)?, stream(src)?);
    if to.context.handle != from.context.handle {
        return Err(CUDA_ERROR_INVALID_HANDLE);
    }
    let attributes = from.attributes.lock().unwrap_or_else(PoisonError::into_inner).clone();
    *to.attributes.lock().unwrap_or_else(PoisonError::into_inner) = attributes;
    to.priority.store(from.priority.load(Ordering::Relaxed), Ordering::Relaxed);
    Ok(())
}
