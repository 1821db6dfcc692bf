//! Which commands make the device work, as far as a frame tells: the work's
//! shape, by which its cost is learned, and its stream.

use paravane_protocol::internal::{COPY, COPY_2D, COPY_3D, OPERAND_ARRAY, OPERAND_DEVICE, THREAD_END};
use paravane_protocol::opcode;
use paravane_scheduler::Shape;

/// A command that makes the device work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) struct Work {
    pub(super) shape: Shape,
    /// The guest's id, or one of CUDA's own streams.
    pub(super) stream: u64,
}

/// Kinds that have no handle: ids of handles are greater.
const MEMSET: u64 = 1;
const COPY_ON_DEVICE: u64 = 2;
const COPY_OF_ROWS: u64 = 3;
/// A graph's size says nothing of its cost.
const GRAPH_SIZE: u64 = 1;

/// What a command is for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) enum Class {
    /// It does nothing on the device, or little.
    Other,
    Work(Work),
    /// A copy between host and device, which is counted by bytes.
    Copy,
    /// What was recorded on streams must not reach beyond it.
    Edge,
    /// A stream or the thread waits: that is no work, where a limit on work is
    /// looked at.
    Waits,
    /// A context may end with it.
    ContextEnds,
    CaptureBegins,
    CaptureEnds,
}

fn word(body: &[u8], index: usize) -> Option<u64> {
    let bytes = body.get(index * 8..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

/// The product of the halves of a launch's words: its threads.
fn threads(body: &[u8]) -> Option<u64> {
    let halves = |index| word(body, index).map(|word| [word & 0xffff_ffff, word >> 32]);
    let all = [halves(1)?, halves(2)?, halves(3)?];
    Some(all.iter().flatten().fold(1, |product, half| half.saturating_mul(product)))
}

fn launch(body: &[u8]) -> Option<Work> {
    let shape = Shape { kind: word(body, 0)?, size: threads(body)? };
    Some(Work { shape, stream: word(body, 5)? })
}

fn graph(body: &[u8]) -> Option<Work> {
    Some(Work { shape: Shape { kind: word(body, 0)?, size: GRAPH_SIZE }, stream: word(body, 1)? })
}

/// A memset of so wide elements; the stream comes last, if there is one.
fn memset(body: &[u8], width: u64, stream: bool) -> Option<Work> {
    let size = word(body, 2)?.saturating_mul(width);
    let stream = if stream { word(body, 3)? } else { 0 };
    Some(Work { shape: Shape { kind: MEMSET, size }, stream })
}

fn memset_2d(body: &[u8], width: u64, stream: bool) -> Option<Work> {
    let size = word(body, 3)?.saturating_mul(word(body, 4)?).saturating_mul(width);
    let stream = if stream { word(body, 5)? } else { 0 };
    Some(Work { shape: Shape { kind: MEMSET, size }, stream })
}

/// A copy: at which words of its frame its ends, the sides whose product is its
/// bytes, and its stream are. It is the device's work if both ends are its.
fn copy(body: &[u8], kind: u64, ends: [usize; 2], sides: &[usize], stream: usize) -> Option<Class> {
    let is_on_device = |end| word(body, end).map(|of| matches!(of, OPERAND_DEVICE | OPERAND_ARRAY));
    let product = |product: u64, side: &usize| Some(product.saturating_mul(word(body, *side)?));
    let shape = Shape { kind, size: sides.iter().try_fold(1, product)? };
    let (work, [to, from]) = (Work { shape, stream: word(body, stream)? }, ends.map(is_on_device));
    Some(if to? && from? { Class::Work(work) } else { Class::Copy })
}

impl Class {
    /// Sorts a command. One that is cut off is nothing: whoever runs it says so.
    #[inline]
    pub(in crate::worker) fn of(opcode: u16, body: &[u8]) -> Self {
        let work = match opcode {
            opcode::cuLaunchKernel | opcode::cuLaunchKernelEx | opcode::cuLaunchCooperativeKernel => {
                launch(body)
            }
            opcode::cuGraphLaunch => graph(body),
            COPY => return copy(body, COPY_ON_DEVICE, [0, 2], &[4], 5).unwrap_or(Self::Other),
            COPY_2D => return copy(body, COPY_OF_ROWS, [0, 3], &[6, 7], 8).unwrap_or(Self::Other),
            COPY_3D => return copy(body, COPY_OF_ROWS, [0, 7], &[14, 15, 16], 17).unwrap_or(Self::Other),
            opcode::cuMemsetD8_v2 => memset(body, 1, false),
            opcode::cuMemsetD16_v2 => memset(body, 2, false),
            opcode::cuMemsetD32_v2 => memset(body, 4, false),
            opcode::cuMemsetD8Async => memset(body, 1, true),
            opcode::cuMemsetD16Async => memset(body, 2, true),
            opcode::cuMemsetD32Async => memset(body, 4, true),
            opcode::cuMemsetD2D8_v2 => memset_2d(body, 1, false),
            opcode::cuMemsetD2D16_v2 => memset_2d(body, 2, false),
            opcode::cuMemsetD2D32_v2 => memset_2d(body, 4, false),
            opcode::cuMemsetD2D8Async => memset_2d(body, 1, true),
            opcode::cuMemsetD2D16Async => memset_2d(body, 2, true),
            opcode::cuMemsetD2D32Async => memset_2d(body, 4, true),
            opcode::cuStreamDestroy_v2 | THREAD_END => return Self::Edge,
            opcode::cuStreamWaitEvent
            | opcode::cuStreamWaitValue32
            | opcode::cuStreamWaitValue64
            | opcode::cuStreamWaitValue32_v2
            | opcode::cuStreamWaitValue64_v2
            | opcode::cuStreamBatchMemOp
            | opcode::cuStreamBatchMemOp_v2
            | opcode::cuLaunchHostFunc
            | opcode::cuStreamSynchronize
            | opcode::cuCtxSynchronize
            | opcode::cuEventSynchronize => return Self::Waits,
            opcode::cuStreamBeginCapture
            | opcode::cuStreamBeginCapture_v2
            | opcode::cuStreamBeginCaptureToGraph => return Self::CaptureBegins,
            opcode::cuStreamEndCapture => return Self::CaptureEnds,
            opcode::cuCtxDestroy_v2
            | opcode::cuDevicePrimaryCtxRelease_v2
            | opcode::cuDevicePrimaryCtxReset_v2 => return Self::ContextEnds,
            _ => None,
        };
        work.map_or(Self::Other, Self::Work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_launch_is_told_by_its_function_and_threads() {
        let words = body(&[9 << 40, 2 | 3 << 32, 1 | 64 << 32, 2 | 1 << 32, 0, 7, 0]);
        let shape = Shape { kind: 9 << 40, size: 2 * 3 * 64 * 2 };
        let expected = Class::Work(Work { shape, stream: 7 });
        assert_eq!(Class::of(opcode::cuLaunchKernel, &words), expected);
        assert_eq!(Class::of(opcode::cuLaunchKernelEx, &words), expected);
    }

    #[test]
    fn only_copies_within_the_device_are_its_work() {
        let within = body(&[0, 5, 0, 6, 4096, 3, 1]);
        let shape = Shape { kind: COPY_ON_DEVICE, size: 4096 };
        assert_eq!(Class::of(COPY, &within), Class::Work(Work { shape, stream: 3 }));
        assert_eq!(Class::of(COPY, &body(&[0, 5, 1 << 16, 6, 4096, 3, 1])), Class::Copy);
        let rows = Work { shape: Shape { kind: COPY_OF_ROWS, size: 640 * 480 }, stream: 3 };
        let plane = |from| body(&[0, 5, 1024, from, 6, 1024, 640, 480, 3, 1]);
        assert_eq!(Class::of(COPY_2D, &plane(0)), Class::Work(rows));
        assert_eq!(Class::of(COPY_2D, &plane(1 << 16)), Class::Copy);
        let end = |kind| [kind, 7, 0, 0, 0, 1024, 32];
        let volume = |from| body(&[&end(OPERAND_ARRAY)[..], &end(from), &[640, 24, 20, 3, 1]].concat());
        assert_eq!(Class::of(COPY_3D, &volume(0)), Class::Work(rows));
        assert_eq!(Class::of(COPY_3D, &volume(1 << 16)), Class::Copy);
    }

    #[test]
    fn what_is_cut_off_is_nothing() {
        let all = [
            opcode::cuLaunchKernel,
            opcode::cuGraphLaunch,
            opcode::cuMemsetD2D32Async,
            opcode::cuMemsetD8_v2,
            COPY,
            COPY_2D,
            COPY_3D,
        ];
        for opcode in all {
            assert_eq!(Class::of(opcode, &[1; 7]), Class::Other);
        }
        let huge = body(&[1, u64::MAX, u64::MAX, u64::MAX, u64::MAX, u64::MAX]);
        assert!(matches!(Class::of(opcode::cuMemsetD2D32Async, &huge), Class::Work(_)));
    }
}
