//! Functions that a device's runtime gives to kernels: formatted output, failed assertions, memory,
//! the values of conditional handles.

use super::address::generic_bytes;
use super::fault::FaultKind;
use super::function::{Argument, Builtin, CallSite};
use super::op::Op;
use super::sync::each;
use super::warp::Warp;
use crate::graph::condition;

/// Longest string that a kernel's output may name.
const STRING_MAX: u64 = 4096;

/// Runs a built-in for the active lanes.
///
/// # Safety
/// As `Run`; `site` is the call site of the operation.
pub unsafe fn run(w: &mut Warp, at: *const Op, which: Builtin, site: &CallSite) -> *const Op {
    match which {
        Builtin::Vprintf => {
            let mut text = Vec::new();
            for lane in each(w.mask) {
                // SAFETY: the caller's promise.
                let (format, arguments) = unsafe { (argument(w, site, 0, lane), argument(w, site, 1, lane)) };
                print(w, lane as u32, format, arguments, &mut text);
            }
            write_out(&text);
            // SAFETY: a call is never a function's last operation.
            unsafe { at.add(1) }
        }
        Builtin::Malloc | Builtin::Free => {
            for lane in each(w.mask) {
                // SAFETY: the caller's promise.
                let value = unsafe { argument(w, site, 0, lane) };
                let grid = &w.cta().grid;
                if which == Builtin::Free {
                    grid.heap.free(value);
                    continue;
                }
                let address = grid.heap.allocate(value, grid.heap_limit);
                // SAFETY: the caller's promise.
                unsafe { result(w, site, lane, address) };
            }
            // SAFETY: a call is never a function's last operation.
            unsafe { at.add(1) }
        }
        Builtin::SetConditional => {
            for lane in each(w.mask) {
                // SAFETY: the caller's promise.
                let (handle, value) = unsafe { (argument(w, site, 0, lane), argument(w, site, 1, lane)) };
                // What is no handle is nobody's.
                condition::set(handle, value as u32);
            }
            // SAFETY: a call is never a function's last operation.
            unsafe { at.add(1) }
        }
        Builtin::AssertFail => {
            let lane = w.mask.trailing_zeros();
            // SAFETY: the caller's promise.
            let (message, file) = unsafe { (argument(w, site, 0, lane as usize), argument(w, site, 1, lane as usize)) };
            // SAFETY: the caller's promise.
            let line = unsafe { argument(w, site, 2, lane as usize) } as u32;
            let what = format!("{}:{line}: assertion `{}` failed", string(w, lane, file), string(w, lane, message));
            // SAFETY: `Run`'s contract.
            w.fail(FaultKind::Assert, unsafe { &*at }, lane, 0, &what)
        }
    }
}

/// Where an argument or result lies for one lane, and its size, at most eight bytes.
///
/// # Safety
/// It is one of a call site in the current frame's function.
unsafe fn place(w: &Warp, argument: &Argument, lane: usize) -> (*mut u8, usize) {
    // SAFETY: decode placed the argument inside the frame.
    let (at, size) = unsafe {
        match argument {
            Argument::Local { here, size, .. } => {
                let base = w.frames[w.frame as usize].local_base + here;
                (w.local.add(lane * w.local_stride as usize + base as usize), *size)
            }
            Argument::Slot { slot, size, .. } => (w.lanes::<u8>(*slot).add(lane * *size as usize), *size),
        }
    };
    (at, (size as usize).min(8))
}

/// Argument number `index` of the call.
///
/// # Safety
/// `site` is the call site in the current frame's function.
unsafe fn argument(w: &Warp, site: &CallSite, index: usize, lane: usize) -> u64 {
    let mut bytes = [0u8; 8];
    let Some(argument) = site.arguments.get(index) else { return 0 };
    // SAFETY: the caller's promise.
    unsafe {
        let (from, size) = place(w, argument, lane);
        std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), size);
    }
    u64::from_le_bytes(bytes)
}

/// Writes the call's result for one lane, if the call takes one.
///
/// # Safety
/// As `argument`.
unsafe fn result(w: &Warp, site: &CallSite, lane: usize, bits: u64) {
    if let Some(result) = site.results.first() {
        // SAFETY: the caller's promise.
        unsafe {
            let (to, size) = place(w, result, lane);
            std::ptr::copy_nonoverlapping(bits.to_le_bytes().as_ptr(), to, size);
        }
    }
}

fn read<const N: usize>(w: &Warp, lane: u32, address: u64) -> [u8; N] {
    let mut bytes = [0; N];
    for (i, byte) in bytes.iter_mut().enumerate() {
        if let Some(from) = generic_bytes(w, lane, address + i as u64, 1) {
            // SAFETY: `generic_bytes` checked the address.
            *byte = unsafe { from.read() };
        }
    }
    bytes
}

fn string(w: &Warp, lane: u32, address: u64) -> String {
    let bytes: Vec<u8> = (0..STRING_MAX).map(|i| read::<1>(w, lane, address + i)[0]).take_while(|&b| b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

unsafe extern "C" {
    static stdout: *mut libc::FILE;
}

/// Writes to the process's standard output through C's stream, so that it stays in order with what
/// the program itself prints. What cannot be written is lost.
fn write_out(text: &[u8]) {
    // SAFETY: C's own stream; it is set before any library is loaded.
    let stream = unsafe { stdout };
    // SAFETY: so many bytes are readable.
    unsafe { libc::fwrite(text.as_ptr().cast(), 1, text.len(), stream) };
}

/// C's printf: each conversion takes its argument from the packed buffer at `arguments`.
fn print(w: &Warp, lane: u32, format: u64, arguments: u64, out: &mut Vec<u8>) {
    let format = string(w, lane, format);
    let mut at = arguments;
    let mut rest = format.as_str();
    while let Some(percent) = rest.find('%') {
        out.extend_from_slice(&rest.as_bytes()[..percent]);
        rest = &rest[percent..];
        if let Some(after) = rest.strip_prefix("%%") {
            out.push(b'%');
            rest = after;
            continue;
        }
        let is_end = |c: char| c.is_ascii_alphabetic() && !matches!(c, 'l' | 'h' | 'z' | 'j' | 't');
        let Some(end) = rest.find(is_end) else { break };
        let (specification, after) = rest.split_at(end + 1);
        rest = after;
        let wide = specification.contains(['l', 'z', 'j', 't']) || specification.ends_with(['s', 'p', 'f', 'e', 'g', 'E', 'G', 'a', 'F']);
        let size = if wide { 8 } else { 4 };
        at = at.next_multiple_of(size);
        let bits = if wide {
            u64::from_le_bytes(read::<8>(w, lane, at))
        } else {
            u64::from(u32::from_le_bytes(read::<4>(w, lane, at)))
        };
        at += size;
        let text = if specification.ends_with('s') { string(w, lane, bits) } else { String::new() };
        convert(specification, bits, wide, &text, out);
    }
    out.extend_from_slice(rest.as_bytes());
}

/// One conversion, done by the C library so that flags and widths mean what they mean in C.
fn convert(specification: &str, bits: u64, wide: bool, text: &str, out: &mut Vec<u8>) {
    let mut buffer = vec![0u8; 512 + text.len()];
    let (Ok(format), Ok(text)) = (std::ffi::CString::new(specification), std::ffi::CString::new(text)) else { return };
    let (to, size, format) = (buffer.as_mut_ptr().cast(), buffer.len(), format.as_ptr());
    // SAFETY: snprintf writes at most `size` bytes; the argument has the type that the one
    // conversion in `format` asks for, and `*` widths, which would ask for more, end in `else`.
    let written = unsafe {
        match specification.chars().last() {
            _ if specification.contains('*') => 0,
            Some('d' | 'i' | 'u' | 'x' | 'X' | 'o' | 'p') if wide => libc::snprintf(to, size, format, bits),
            Some('d' | 'i' | 'u' | 'x' | 'X' | 'o' | 'c') => libc::snprintf(to, size, format, bits as u32),
            Some('f' | 'F' | 'e' | 'E' | 'g' | 'G' | 'a' | 'A') => libc::snprintf(to, size, format, f64::from_bits(bits)),
            Some('s') => libc::snprintf(to, size, format, text.as_ptr()),
            _ => 0,
        }
    };
    buffer.truncate(usize::try_from(written).unwrap_or(0).min(size - 1));
    out.extend_from_slice(&buffer);
}
