//! The registers of one call of a function by a group of lanes, with the constants and special
//! values that its operations read beside registers.

use super::cta::CtaState;
use super::function::{Constant, Function, MaskOf, Special};
use super::lanes::LANES;
use super::op::Op;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

/// Slots begin at multiples of this.
pub const SLOT_ALIGN: u32 = 64;

pub struct Frame {
    base: *mut u8,
    size: usize,
    pub function: *const Function,
    /// Lanes that are in this call.
    pub lanes: u32,
    /// Calls above this one.
    pub depth: u32,
    pub parent: u32,
    pub return_to: *const Op,
    /// Offset of this frame in each thread's local memory.
    pub local_base: u32,
}

impl Frame {
    /// A frame of `function` with registers at zero and constants in place.
    pub fn new(function: &Function) -> Self {
        let size = (function.frame_size.max(SLOT_ALIGN)) as usize;
        let layout = layout(size);
        // SAFETY: the layout's size is not zero.
        let base = unsafe { alloc_zeroed(layout) };
        if base.is_null() {
            handle_alloc_error(layout);
        }
        let frame = Self {
            base,
            size,
            function,
            lanes: 0,
            depth: 0,
            parent: 0,
            return_to: std::ptr::null(),
            local_base: 0,
        };
        for constant in &function.constants {
            frame.fill(constant);
        }
        frame
    }

    pub fn regs(&self) -> *mut u8 {
        self.base
    }

    fn fill(&self, constant: &Constant) {
        // SAFETY: decode placed the slot, 32 lanes of `width` bytes, inside the frame.
        unsafe {
            let slot = self.base.add(constant.slot as usize);
            match constant.width {
                0 => slot.cast::<u32>().write(if constant.bits != 0 { u32::MAX } else { 0 }),
                1 => slot.write_bytes(constant.bits as u8, LANES),
                2 => slot.cast::<[u16; LANES]>().write([constant.bits as u16; LANES]),
                4 => slot.cast::<[u32; LANES]>().write([constant.bits as u32; LANES]),
                _ => slot.cast::<[u64; LANES]>().write([constant.bits; LANES]),
            }
        }
    }

    /// Writes the special values that the function reads. `only_cta`: those alone that differ
    /// between the CTAs of a launch.
    pub fn set_specials(&self, cta: &CtaState, warp: u32, only_cta: bool) {
        // SAFETY: `function` outlives its frames: the launch keeps its module.
        let function = unsafe { &*self.function };
        for (special, slot) in &function.specials {
            let per_cta = matches!(special, Special::CtaId(_));
            if only_cta && !per_cta {
                continue;
            }
            // SAFETY: decode placed the slot inside the frame.
            let lanes = unsafe { &mut *self.base.add(*slot as usize).cast::<[u32; LANES]>() };
            self.special_lanes(*special, cta, warp, lanes);
        }
    }

    fn special_lanes(&self, special: Special, cta: &CtaState, warp: u32, lanes: &mut [u32; LANES]) {
        if let Special::Tid(axis) = special {
            for (lane, value) in lanes.iter_mut().enumerate() {
                *value = cta.thread_of(warp, lane as u32)[axis as usize];
            }
            return;
        }
        if !matches!(special, Special::LaneId | Special::LaneMask(_)) {
            *lanes = [match special {
                Special::WarpId => warp,
                Special::FrameLocal => self.local_base,
                _ => cta.special(special),
            }; LANES];
            return;
        }
        for (lane, value) in lanes.iter_mut().enumerate() {
            let bit = 1u32 << lane;
            *value = match special {
                Special::LaneMask(MaskOf::Eq) => bit,
                Special::LaneMask(MaskOf::Lt) => bit - 1,
                Special::LaneMask(MaskOf::Le) => bit | (bit - 1),
                Special::LaneMask(MaskOf::Gt) => !(bit | (bit - 1)),
                Special::LaneMask(MaskOf::Ge) => !(bit - 1),
                _ => lane as u32,
            };
        }
    }
}

fn layout(size: usize) -> Layout {
    // A frame's size is a multiple of SLOT_ALIGN below 4 GiB, so this layout is always valid.
    Layout::from_size_align(size, SLOT_ALIGN as usize).unwrap_or(Layout::new::<u64>())
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.base, layout(self.size)) }
    }
}
