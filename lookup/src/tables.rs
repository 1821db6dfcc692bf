//! The export tables themselves: which there are, how long each is, and what
//! stands in its slots. A table opens with its size in bytes, all but
//! context-local storage; a slot that nobody was seen to use answers
//! CUDA_ERROR_NOT_SUPPORTED. An unknown table is refused: a library that finds
//! none does without, one that finds an empty one breaks.

use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;

use paravane_protocol::cuda_types::{CUDA_ERROR_NOT_SUPPORTED, CUresult, CUuuid};

use crate::Libcuda;

mod context;
mod module;
mod runtime;

/// A slot: a function, or in the first the table's size.
#[derive(Clone, Copy)]
#[repr(transparent)]
#[allow(dead_code, reason = "read by programs")]
struct Slot(*const c_void);

#[allow(unsafe_code, reason = "addresses shared between threads")]
// SAFETY: the address of a function, or a number.
unsafe impl Sync for Slot {}

/// The slot of a function.
macro_rules! slot {
    ($function:path) => {
        Slot($function as *const c_void)
    };
}

extern "C" fn not_supported() -> CUresult {
    log::warn!("a slot of an export table was called that is not answered: CUDA_ERROR_NOT_SUPPORTED");
    CUDA_ERROR_NOT_SUPPORTED
}

/// A table of `N` slots with its size in the first.
const fn table<const N: usize>(named: &[(usize, Slot)]) -> [Slot; N] {
    let mut slots = [slot!(not_supported); N];
    slots[0] = Slot(ptr::without_provenance(N * size_of::<Slot>()));
    let mut at = 0;
    while at < named.len() {
        slots[named[at].0] = named[at].1;
        at += 1;
    }
    slots
}

/// CUDART_INTERFACE.
static RUNTIME: [Slot; 13] = table(&[
    (1, slot!(runtime::load)),
    (2, slot!(runtime::primary_context)),
    (6, slot!(runtime::load_with_hints)),
    (7, slot!(runtime::note_address)),
    (8, slot!(runtime::load_headless)),
    (12, slot!(runtime::load_compilers)),
]);
/// TOOLS_RUNTIME_CALLBACK_HOOKS.
static CALLBACK_HOOKS: [Slot; 7] = table(&[(2, slot!(runtime::callback_flags)), (6, slot!(runtime::more_flags))]);
/// INTEGRITY_CHECK.
static HANDSHAKE: [Slot; 3] = table(&[(1, slot!(runtime::handshake))]);
/// TOOLS_TLS.
static THREAD: [Slot; 3] = table(&[(2, slot!(context::current))]);
/// CONTEXT_LOCAL_STORAGE_INTERFACE_V0301: no size, NULL at the end.
static STORAGE: [Slot; 4] =
    [slot!(context::put), slot!(context::delete), slot!(context::get), Slot(ptr::null())];
/// CONTEXT_CHECKS.
static CONTEXT_CHECKS: [Slot; 4] = table(&[(2, slot!(context::check)), (3, slot!(context::check_library))]);
/// TOOLS_CONTEXT; as long as the 595 driver's.
static CONTEXTS: [Slot; 94] = table(&[
    (3, slot!(context::device)),
    (4, slot!(context::number)),
    (39, slot!(context::query_stream)),
    (51, slot!(context::stream)),
]);
/// TOOLS_MODULE.
static MODULES: [Slot; 88] = table(&[(7, slot!(module::for_each_function))]);
/// Unnamed; cuBLASLt's.
static BLAS: [Slot; 16] = table(&[(4, slot!(context::hooks))]);

/// Every table under its UUID's first and last eight bytes, big-endian.
static TABLES: [(u64, u64, &[Slot]); 9] = [
    (0x6bd5_fb6c_5bf4_e74a, 0x8987_d939_12fd_9df9, &RUNTIME),
    (0xa094_798c_2e74_2e74, 0x93f2_0800_200c_0a66, &CALLBACK_HOOKS),
    (0xd408_2055_bde6_704b, 0x8d34_ba12_3c66_e1f2, &HANDSHAKE),
    (0x42d8_5a81_23f6_cb47, 0x8298_f6e7_8a3a_ecdc, &THREAD),
    (0xc693_336e_1121_df11, 0xa8c3_68f3_55d8_9593, &STORAGE),
    (0x263e_8860_7cd2_6143, 0x92f6_bbd5_006d_fa7e, &CONTEXT_CHECKS),
    (0x2131_8c60_9714_3248, 0x8ca6_41ff_7324_c8f2, &CONTEXTS),
    (0x6e16_3fbe_b958_444d, 0x835c_e182_aff1_991e, &MODULES),
    (0x1734_dc26_800d_4745, 0x8726_c0f1_e7dd_8bca, &BLAS),
];

/// The library that handed out a table; no slot can be called before.
static LIBCUDA: OnceLock<&'static dyn Libcuda> = OnceLock::new();

/// The table under a UUID, for the program to be given; `None` for one that is
/// refused. `libcuda` answers its slots from now on.
pub fn export_table(id: CUuuid, libcuda: &'static dyn Libcuda) -> Option<*const c_void> {
    let number = u128::from_be_bytes(id.bytes);
    let found = TABLES.iter().find(|(high, low, _)| u128::from(*high) << 64 | u128::from(*low) == number);
    if found.is_none() {
        log::debug!("export table {number:032x} is refused");
    }
    let (.., table) = found?;
    LIBCUDA.get_or_init(|| libcuda);
    Some(table.as_ptr().cast())
}

/// What a slot does at the boundary to the program: nothing panics out of it.
fn answered(call: impl FnOnce(&dyn Libcuda) -> crate::Answer) -> CUresult {
    use paravane_protocol::cuda_types::{CUDA_ERROR_NOT_INITIALIZED, CUDA_ERROR_UNKNOWN, CUDA_SUCCESS};
    let Some(libcuda) = LIBCUDA.get() else { return CUDA_ERROR_NOT_INITIALIZED };
    let call = || libcuda.may_answer().and_then(|()| call(*libcuda));
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)) {
        Ok(Ok(())) => CUDA_SUCCESS,
        Ok(Err(error)) => error,
        Err(_) => CUDA_ERROR_UNKNOWN,
    }
}

/// Writes a result; NULL is CUDA_ERROR_INVALID_VALUE.
#[allow(unsafe_code, reason = "the program's pointers")]
fn give<T>(to: *mut T, value: T) -> crate::Answer {
    if to.is_null() {
        return Err(paravane_protocol::cuda_types::CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller of a slot gives a pointer to the result's type.
    unsafe { to.write_unaligned(value) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(high: u64, low: u64) -> CUuuid {
        CUuuid { bytes: (u128::from(high) << 64 | u128::from(low)).to_be_bytes() }
    }

    /// A UUID as it is written, without its dashes.
    fn written(text: &str) -> CUuuid {
        CUuuid { bytes: u128::from_str_radix(&text.replace('-', ""), 16).unwrap().to_be_bytes() }
    }

    #[test]
    fn each_table_says_its_size_and_has_no_empty_slot() {
        for (high, low, slots) in TABLES {
            if ptr::eq(slots.as_ptr(), STORAGE.as_ptr()) {
                assert!(slots[..3].iter().all(|slot| !slot.0.is_null()) && slots[3].0.is_null());
                continue;
            }
            assert_eq!(slots[0].0.addr(), slots.len() * 8, "{high:x}-{low:x}");
            assert!(slots[1..].iter().all(|slot| !slot.0.is_null()));
        }
        assert_eq!(TABLES.map(|(.., slots)| slots.len()), [13, 7, 3, 3, 4, 4, 94, 88, 16]);
    }

    #[test]
    fn a_known_uuid_has_its_table_and_an_unknown_one_none() {
        let known = written("6bd5fb6c-5bf4-e74a-8987-d93912fd9df9");
        assert_eq!(known.bytes[..2], [0x6b, 0xd5]);
        let at = export_table(known, &crate::tables::runtime::tests::Alone);
        assert_eq!(at, Some(RUNTIME.as_ptr().cast()));
        for refused in ["f8cff951-2146-8b4e-b9e2-fb469e7c0dd9", "da9151d3-3ae6-cc41-a5c0-4f26d533e328"] {
            assert_eq!(export_table(written(refused), &crate::tables::runtime::tests::Alone), None);
        }
        assert_eq!(export_table(id(1, 2), &crate::tables::runtime::tests::Alone), None);
    }

    #[test]
    fn a_slot_without_meaning_says_so() {
        assert_eq!(not_supported(), CUDA_ERROR_NOT_SUPPORTED);
    }
}
