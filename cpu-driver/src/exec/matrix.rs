//! Matrix operations of a warp: products of tiles that are spread over its lanes, and moves of 8x8
//! tiles between shared memory and registers. How a tile is spread is PTX's for `mma` and
//! `ldmatrix`; `wmma` leaves it open, and here its elements follow each other lane by lane.

use super::address::{BadAddress, GENERIC, GLOBAL, SHARED, resolve};
use super::float::{from_bf16, from_half};
use super::float8::{from_e4m3, from_e5m2};
use super::lanes::LANES;
use super::op::{Op, Run};
use super::sync::{each, meet};
use super::warp::{Stop, Warp};

/// Type of a tile's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    F16,
    Bf16,
    Tf32,
    F32,
    F64,
    E4m3,
    E5m2,
    S8,
    U8,
    S4,
    U4,
    B1,
    S32,
}

impl Element {
    /// The type that a modifier names.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "f16" => Self::F16,
            "bf16" => Self::Bf16,
            "tf32" => Self::Tf32,
            "f32" => Self::F32,
            "f64" => Self::F64,
            "e4m3" => Self::E4m3,
            "e5m2" => Self::E5m2,
            "s8" => Self::S8,
            "u8" => Self::U8,
            "s4" => Self::S4,
            "u4" => Self::U4,
            "b1" => Self::B1,
            "s32" => Self::S32,
            _ => return None,
        })
    }

    pub fn bits(self) -> u32 {
        match self {
            Self::F64 => 64,
            Self::Tf32 | Self::F32 | Self::S32 => 32,
            Self::F16 | Self::Bf16 => 16,
            Self::E4m3 | Self::E5m2 | Self::S8 | Self::U8 => 8,
            Self::S4 | Self::U4 => 4,
            Self::B1 => 1,
        }
    }

    /// Elements in one register.
    fn in_register(self) -> u32 {
        (32 / self.bits()).max(1)
    }

    /// The value of an element's bits. Every type's values are exact in f64.
    #[inline(always)]
    fn value(self, bits: u64) -> f64 {
        match self {
            Self::F16 => f64::from(from_half(bits as u16)),
            Self::Bf16 => f64::from(from_bf16(bits as u16)),
            // The lower bits of a tf32 are not looked at.
            Self::Tf32 => f64::from(f32::from_bits(bits as u32 & 0xffff_e000)),
            Self::F32 => f64::from(f32::from_bits(bits as u32)),
            Self::F64 => f64::from_bits(bits),
            Self::E4m3 => f64::from(from_e4m3(bits as u8)),
            Self::E5m2 => f64::from(from_e5m2(bits as u8)),
            Self::S8 => f64::from((bits as u8).cast_signed()),
            Self::U8 => f64::from(bits as u8),
            Self::S4 => f64::from(((bits as u8) << 4).cast_signed() >> 4),
            Self::U4 => f64::from(bits as u8 & 15),
            Self::B1 => f64::from(bits as u8 & 1),
            Self::S32 => f64::from((bits as u32).cast_signed()),
        }
    }
}

/// How a tile's elements are spread over lanes and registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// One after the other through all lanes; again from the start where registers are left.
    Flat,
    /// Left factor, right factor, and sum of `mma`.
    Left,
    Right,
    Sum,
}

/// A tile in registers.
#[derive(Debug, Clone)]
pub struct Tile {
    pub element: Element,
    pub spread: Spread,
    pub rows: u32,
    pub columns: u32,
    pub slots: Vec<u32>,
}

impl Tile {
    /// Row and column of element `j` of register `register` of a lane.
    #[inline(always)]
    fn place(&self, lane: u32, register: u32, j: u32) -> (u32, u32) {
        let in_register = self.element.in_register();
        let (group, in_group) = (lane >> 2, lane & 3);
        let number = register * in_register + j;
        match self.spread {
            Spread::Flat => {
                let at = lane * self.slots.len() as u32 * in_register + number;
                (at / self.columns % self.rows, at % self.columns)
            }
            Spread::Left if self.rows == 16 => {
                (group + 8 * (register & 1), in_group * in_register + j + (register >> 1) * 4 * in_register)
            }
            Spread::Left => (group, in_group * in_register + j + register * 4 * in_register),
            Spread::Right => (in_group * in_register + j + register * 4 * in_register, group),
            Spread::Sum => (group + 8 * (number >> 1), in_group * 2 + (number & 1)),
        }
    }

    /// Visits every element: its register's slot, lane, shift in the register, row and column.
    fn each(&self, mut visit: impl FnMut(u32, usize, u32, u32, u32)) {
        for lane in 0..LANES as u32 {
            for (register, slot) in self.slots.iter().enumerate() {
                for j in 0..self.element.in_register() {
                    let (row, column) = self.place(lane, register as u32, j);
                    visit(*slot, lane as usize, j * self.element.bits(), row, column);
                }
            }
        }
    }

    fn mask(&self) -> u64 {
        u64::MAX >> (64 - self.element.bits())
    }

    /// The tile's values, row by row.
    ///
    /// # Safety
    /// The slots hold 32 lanes of the registers' width.
    unsafe fn read(&self, w: &Warp) -> Vec<f64> {
        let mut values = vec![0.0; (self.rows * self.columns) as usize];
        self.each(|slot, lane, shift, row, column| {
            // SAFETY: the caller's promise.
            let bits = unsafe {
                if self.element == Element::F64 {
                    w.lanes::<u64>(slot).add(lane).read()
                } else {
                    u64::from(w.lanes::<u32>(slot).add(lane).read())
                }
            };
            values[(row * self.columns + column) as usize] = self.element.value(bits >> shift & self.mask());
        });
        values
    }

    /// Puts bits, row by row, into the registers.
    ///
    /// # Safety
    /// As `read`.
    unsafe fn write(&self, w: &Warp, bits: &[u64]) {
        self.each(|slot, lane, shift, row, column| {
            let value = bits[(row * self.columns + column) as usize];
            // SAFETY: the caller's promise.
            unsafe {
                if self.element == Element::F64 {
                    w.lanes::<u64>(slot).add(lane).write(value);
                } else {
                    let register = w.lanes::<u32>(slot).add(lane);
                    let kept = register.read() & !((self.mask() as u32) << shift);
                    register.write(kept | (value as u32) << shift);
                }
            }
        });
    }
}

/// How factors of one bit are combined before they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combine {
    Multiply,
    Xor,
}

/// D = A * B + C.
#[derive(Debug)]
pub struct Product {
    pub d: Tile,
    pub a: Tile,
    pub b: Tile,
    pub c: Tile,
    pub combine: Combine,
    /// Integers stop at their type's ends.
    pub saturate: bool,
}

impl Product {
    /// The sums of products. Integers are exact in f64, whose 53 bits no sum here fills; products of
    /// floats are exact too, and are added in f64 and rounded once.
    fn sums(&self, a: &[f64], b: &[f64], mut sums: Vec<f64>) -> Vec<f64> {
        let (columns, depth) = (self.d.columns as usize, self.a.columns as usize);
        for (row, sums) in sums.chunks_exact_mut(columns).enumerate() {
            for (k, b) in b.chunks_exact(columns).enumerate() {
                let a = a[row * depth + k];
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum += match self.combine {
                        Combine::Multiply => a * b,
                        Combine::Xor => (a - b).abs(),
                    };
                }
            }
        }
        sums
    }

    fn bits(&self, value: f64) -> u64 {
        match self.d.element {
            Element::F64 => value.to_bits(),
            Element::F16 => u64::from(half::f16::from_f64(value).to_bits()),
            Element::S32 if self.saturate => u64::from((value as i32).cast_unsigned()),
            Element::S32 => u64::from((value as i64) as u32),
            _ => u64::from((value as f32).to_bits()),
        }
    }
}

/// Runs `body` once all lanes are here; what it reports ends the kernel.
///
/// # Safety
/// As `Run`; slot `e` holds member masks.
unsafe fn together(w: &mut Warp, at: *const Op, body: impl Fn(&mut Warp, &Op) -> Result<(), BadAddress>) -> *const Op {
    // SAFETY: `Run`'s contract.
    let next = unsafe {
        meet(w, at, (*at).e, |w, _| {
            if let Err(bad) = body(w, &*at) {
                bad.report(w, &*at);
            }
        })
    };
    if w.fault.is_some() {
        w.stop = Stop::Fault;
        return std::ptr::null();
    }
    next
}

/// `mma` and `wmma.mma`: `imm` numbers the product in the function.
///
/// # Safety
/// As `Run`.
pub unsafe fn multiply(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract; the frame's function holds the product.
    unsafe {
        together(w, at, |w, op| {
            let function = &*w.frames[w.frame as usize].function;
            let product = &function.products[op.imm as usize];
            let (a, b, c) = (product.a.read(w), product.b.read(w), product.c.read(w));
            let sums = product.sums(&a, &b, c);
            let bits: Vec<u64> = sums.into_iter().map(|value| product.bits(value)).collect();
            product.d.write(w, &bits);
            Ok(())
        })
    }
}

/// Where `wmma.load` and `wmma.store` find a tile in memory.
#[derive(Debug)]
pub struct TileMove {
    pub tile: Tile,
    /// Columns lie one after the other.
    pub by_column: bool,
    pub space: u8,
    pub offset: u64,
    pub is_store: bool,
}

fn resolve_in(space: u8, w: &Warp, lane: u32, address: u64, size: u64) -> Result<*mut u8, BadAddress> {
    match space {
        SHARED => resolve::<SHARED>(w, lane, address, size),
        GLOBAL => resolve::<GLOBAL>(w, lane, address, size),
        _ => resolve::<GENERIC>(w, lane, address, size),
    }
}

/// `wmma.load` and `wmma.store`: `imm` numbers the move, `a` holds addresses, `b` elements from line
/// to line.
///
/// # Safety
/// As `Run`.
pub unsafe fn move_tile(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract; pointers come from `resolve`.
    unsafe {
        together(w, at, |w, op| {
            let function = &*w.frames[w.frame as usize].function;
            let it = &function.tile_moves[op.imm as usize];
            let (addresses, strides) = (*w.lanes::<[u64; LANES]>(op.a), *w.lanes::<[u32; LANES]>(op.b));
            let bits = it.tile.element.bits();
            let mut bad = None;
            it.tile.each(|slot, lane, shift, row, column| {
                let (line, in_line) = if it.by_column { (column, row) } else { (row, column) };
                let at = (u64::from(line) * u64::from(strides[lane]) + u64::from(in_line)) * u64::from(bits);
                let address = addresses[lane].wrapping_add(it.offset).wrapping_add(at / 8);
                let size = u64::from(bits / 8).max(1);
                match resolve_in(it.space, w, lane as u32, address, size) {
                    Ok(place) => exchange(w, it, place, slot, lane, shift, (at % 8) as u32),
                    Err(error) => bad = bad.take().or(Some(error)),
                }
            });
            bad.map_or(Ok(()), Err)
        })
    }
}

/// Moves one element between memory and its register.
///
/// # Safety
/// `place` is valid for the element's bytes, the slot for 32 lanes of its registers.
unsafe fn exchange(w: &Warp, it: &TileMove, place: *mut u8, slot: u32, lane: usize, shift: u32, bit: u32) {
    let (bits, mask) = (it.tile.element.bits(), it.tile.mask());
    // SAFETY: the caller's promise.
    unsafe {
        let wide = bits == 64;
        let register = if wide {
            w.lanes::<u64>(slot).add(lane).read()
        } else {
            u64::from(w.lanes::<u32>(slot).add(lane).read())
        };
        let bytes = (bits as usize / 8).max(1);
        let mut raw = [0u8; 8];
        std::ptr::copy_nonoverlapping(place, raw.as_mut_ptr(), bytes);
        let memory = u64::from_le_bytes(raw);
        if it.is_store {
            let value = (memory & !(mask << bit)) | (register >> shift & mask) << bit;
            std::ptr::copy_nonoverlapping(value.to_le_bytes().as_ptr(), place, bytes);
        } else if wide {
            w.lanes::<u64>(slot).add(lane).write(memory);
        } else {
            let value = (register & !(mask << shift)) | (memory >> bit & mask) << shift;
            w.lanes::<u32>(slot).add(lane).write(value as u32);
        }
    }
}

/// An 8x8 tile of 16-bit elements.
type Eight = [[u16; 8]; 8];

/// Slots of the tiles of `ldmatrix` and `stmatrix`.
fn slots(op: &Op) -> [u32; 4] {
    [op.d, op.b, op.c, op.imm as u32]
}

/// Elements of a tile that a lane has: row and column of the first, which has the lower half.
fn own(lane: usize, transposed: bool) -> [(usize, usize); 2] {
    let (line, at) = (lane >> 2, (lane & 3) * 2);
    if transposed { [(at, line), (at + 1, line)] } else { [(line, at), (line, at + 1)] }
}

fn row_of(w: &Warp, addresses: &[u64; LANES], lane: usize) -> Result<*mut [u16; 8], BadAddress> {
    resolve::<GENERIC>(w, lane as u32, addresses[lane], 16).map(|row| row.cast::<[u16; 8]>())
}

/// `ldmatrix`: generic row addresses in `a`, COUNT results.
///
/// # Safety
/// As `Run`.
unsafe fn load_eights<const COUNT: usize, const TRANSPOSED: bool>(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract; pointers come from `resolve`.
    unsafe {
        together(w, at, |w, op| {
            let addresses = *w.lanes::<[u64; LANES]>(op.a);
            for (number, slot) in slots(op).iter().enumerate().take(COUNT) {
                let mut tile: Eight = Default::default();
                for (row, values) in tile.iter_mut().enumerate() {
                    *values = row_of(w, &addresses, number * 8 + row)?.read();
                }
                for lane in 0..LANES {
                    let [low, high] = own(lane, TRANSPOSED).map(|(row, column)| u32::from(tile[row][column]));
                    w.lanes::<u32>(*slot).add(lane).write(low | high << 16);
                }
            }
            Ok(())
        })
    }
}

/// `stmatrix`: as `load_eights`, the other way.
///
/// # Safety
/// As `Run`.
unsafe fn store_eights<const COUNT: usize, const TRANSPOSED: bool>(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract; pointers come from `resolve`.
    unsafe {
        together(w, at, |w, op| {
            let addresses = *w.lanes::<[u64; LANES]>(op.a);
            for (number, slot) in slots(op).iter().enumerate().take(COUNT) {
                let tile = gather::<TRANSPOSED>(w, *slot);
                for (row, values) in tile.iter().enumerate() {
                    row_of(w, &addresses, number * 8 + row)?.write(*values);
                }
            }
            Ok(())
        })
    }
}

/// # Safety
/// The slot holds 32 lanes of u32.
unsafe fn gather<const TRANSPOSED: bool>(w: &Warp, slot: u32) -> Eight {
    let mut tile: Eight = Default::default();
    for lane in 0..LANES {
        // SAFETY: the caller's promise.
        let bits = unsafe { w.lanes::<u32>(slot).add(lane).read() };
        let [(row, column), (row_high, column_high)] = own(lane, TRANSPOSED);
        tile[row][column] = bits as u16;
        tile[row_high][column_high] = (bits >> 16) as u16;
    }
    tile
}

/// `movmatrix`: the tile of `a`, transposed.
///
/// # Safety
/// As `Run`.
pub unsafe fn transpose_eight(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract.
    unsafe {
        together(w, at, |w, op| {
            let tile = gather::<true>(w, op.a);
            for lane in each(u32::MAX) {
                let [low, high] = own(lane, false).map(|(row, column)| u32::from(tile[row][column]));
                w.lanes::<u32>(op.d).add(lane).write(low | high << 16);
            }
            Ok(())
        })
    }
}

/// The operation that moves `count` tiles.
pub fn eights_op(count: usize, transposed: bool, is_store: bool) -> Option<Run> {
    Some(match (count, transposed, is_store) {
        (1, false, false) => load_eights::<1, false>,
        (2, false, false) => load_eights::<2, false>,
        (4, false, false) => load_eights::<4, false>,
        (1, true, false) => load_eights::<1, true>,
        (2, true, false) => load_eights::<2, true>,
        (4, true, false) => load_eights::<4, true>,
        (1, false, true) => store_eights::<1, false>,
        (2, false, true) => store_eights::<2, false>,
        (4, false, true) => store_eights::<4, false>,
        (1, true, true) => store_eights::<1, true>,
        (2, true, true) => store_eights::<2, true>,
        (4, true, true) => store_eights::<4, true>,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(element: Element, spread: Spread, rows: u32, columns: u32, registers: u32) -> Tile {
        Tile { element, spread, rows, columns, slots: (0..registers).collect() }
    }

    /// Every element of a tile is in exactly one place, but in flat tiles with registers to spare.
    #[test]
    fn tiles_are_spread_once() {
        use Element::*;
        use Spread::*;
        for (tile, times) in [
            (tile(F16, Left, 16, 16, 4), 1),
            (tile(F16, Left, 16, 8, 2), 1),
            (tile(Tf32, Left, 16, 8, 4), 1),
            (tile(S8, Left, 16, 32, 4), 1),
            (tile(S8, Left, 8, 16, 1), 1),
            (tile(B1, Left, 16, 256, 4), 1),
            (tile(F64, Left, 16, 16, 8), 1),
            (tile(F16, Right, 16, 8, 2), 1),
            (tile(S4, Right, 64, 8, 2), 1),
            (tile(F32, Sum, 16, 8, 4), 1),
            (tile(F16, Sum, 16, 8, 2), 1),
            (tile(F64, Sum, 8, 8, 2), 1),
            (tile(F16, Flat, 16, 16, 8), 2),
            (tile(F32, Flat, 16, 16, 8), 1),
            (tile(S8, Flat, 8, 16, 1), 1),
        ] {
            let mut seen = vec![0; (tile.rows * tile.columns) as usize];
            tile.each(|_, _, _, row, column| seen[(row * tile.columns + column) as usize] += 1);
            assert!(seen.iter().all(|&n| n == times), "{tile:?}: {seen:?}");
        }
    }

    /// PTX ISA, m16n8k16: a6 and a7 of lane 5 are in row 1 + 8, columns 2 + 8 and 3 + 8.
    #[test]
    fn a_left_factor_lies_where_the_isa_says() {
        let a = tile(Element::F16, Spread::Left, 16, 16, 4);
        assert_eq!((a.place(5, 3, 0), a.place(5, 3, 1)), ((9, 10), (9, 11)));
        let c = tile(Element::F32, Spread::Sum, 16, 8, 4);
        assert_eq!((c.place(5, 1, 0), c.place(5, 2, 0)), ((1, 3), (9, 2)));
    }
}
