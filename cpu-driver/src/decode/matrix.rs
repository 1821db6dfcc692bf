//! `wmma`, `mma`, `ldmatrix`, `stmatrix` and `movmatrix`: shapes and types from the modifiers, slots
//! from the operands.

use super::function::{Decoder, types};
use super::{Problem, Step, bad};
use crate::exec::address::{GENERIC, GLOBAL, SHARED};
use crate::exec::lanes::ternary;
use crate::exec::matrix::{self, Combine, Element, Product, Spread, Tile, TileMove, eights_op};
use crate::exec::op::{Op, Run};
use crate::memory::SHARED_BASE;
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::types::{Space, Type};

/// Rows of the left factor, columns of the right one, and what they share.
fn shape(i: &Instruction<'_>) -> Step<[u32; 3]> {
    let parse = |modifier: &str| {
        let (m, rest) = modifier.strip_prefix('m')?.split_once('n')?;
        let (n, k) = rest.split_once('k')?;
        Some([m.parse().ok()?, n.parse().ok()?, k.parse().ok()?])
    };
    i.modifiers().find_map(parse).ok_or(Problem::Unknown)
}

fn elements(i: &Instruction<'_>) -> Vec<Element> {
    i.modifiers().filter_map(Element::from_name).collect()
}

/// Types of D, A, B and C, of which the short form of `wmma.mma` names D and C.
fn product_elements(i: &Instruction<'_>) -> Step<[Element; 4]> {
    match elements(i)[..] {
        [d, a, b, c] => Ok([d, a, b, c]),
        [d, c] => Ok([d, Element::F16, Element::F16, c]),
        _ => Err(Problem::Unknown),
    }
}

/// Type of the registers that hold a tile.
fn register_type(element: Element) -> Type {
    if element == Element::F64 { Type::B64 } else { Type::B32 }
}

impl<'a> Decoder<'_, 'a> {
    pub(super) fn matrix(&mut self, i: &Instruction<'a>) -> Step {
        match i.opcode() {
            "mma" if i.has("sp") || i.has("sp::ordered_metadata") => Err(Problem::Unknown),
            "mma" => self.product(i, [Spread::Sum, Spread::Left, Spread::Right, Spread::Sum]),
            "wmma" if i.has("mma") => self.product(i, [Spread::Flat; 4]),
            "wmma" => self.tile_move(i),
            "movmatrix" => {
                let [d, a] = i.operands.as_slice() else { return bad("two operands expected") };
                let a = self.source(a, Type::B32)?;
                let d = self.destination(d, Type::B32)?;
                self.warp_op(matrix::transpose_eight, Op { d: d.slot, a, ..Op::new(matrix::transpose_eight, 0) });
                self.finish(d);
                Ok(())
            }
            _ => self.eights(i),
        }
    }

    /// Emits an operation of the whole warp.
    fn warp_op(&mut self, run: Run, op: Op) {
        let e = self.constant(4, u64::from(u32::MAX));
        self.ops.push(Op { run, e, line: self.line, ..op });
    }

    /// The registers of a tile; those that are written must be as wide as their type.
    fn tile(&mut self, operand: &Operand<'a>, element: Element, spread: Spread, rows: u32, columns: u32) -> Step<Tile> {
        let registers = match operand {
            Operand::Vector(all) => all.as_slice(),
            single => std::slice::from_ref(single),
        };
        let ty = register_type(element);
        let slots = registers.iter().map(|register| self.source(register, ty)).collect::<Step<Vec<u32>>>()?;
        let bits = u32::try_from(slots.len()).unwrap_or(0) * ty.size() * 8 * 32;
        if bits < rows * columns * element.bits() {
            return Err(Problem::Unknown);
        }
        Ok(Tile { element, spread, rows, columns, slots })
    }

    fn product(&mut self, i: &Instruction<'a>, spread: [Spread; 4]) -> Step {
        let ([m, n, k], [d_type, a_type, b_type, c_type]) = (shape(i)?, product_elements(i)?);
        let [d, a, b, c, ..] = i.operands.as_slice() else { return bad("four operands expected") };
        // The oldest shape of halves is spread in a way of its own.
        let is_oldest = spread[0] == Spread::Sum && a_type == Element::F16 && m == 8;
        if is_oldest || (m != 8 && m != 16 && spread[0] == Spread::Sum) {
            return Err(Problem::Unknown);
        }
        let [d_spread, a_spread, b_spread, c_spread] = spread;
        let product = Product {
            d: self.tile(d, d_type, d_spread, m, n)?,
            a: self.tile(a, a_type, a_spread, m, k)?,
            b: self.tile(b, b_type, b_spread, k, n)?,
            c: self.tile(c, c_type, c_spread, m, n)?,
            combine: if i.has("xor") { Combine::Xor } else { Combine::Multiply },
            saturate: i.has("satfinite"),
        };
        let imm = u64::try_from(self.products.len()).unwrap_or(0);
        self.products.push(product);
        self.warp_op(matrix::multiply, Op { imm, ..Op::new(matrix::multiply, 0) });
        Ok(())
    }

    /// `wmma.load.x.…` and `wmma.store.d.…`.
    fn tile_move(&mut self, i: &Instruction<'a>) -> Step {
        let ([m, n, k], Some(element)) = (shape(i)?, elements(i).last().copied()) else { return Err(Problem::Unknown) };
        let is_store = i.has("store");
        let (registers, address, stride) = match (is_store, i.operands.as_slice()) {
            (false, [registers, address, rest @ ..]) | (true, [address, registers, rest @ ..]) => {
                (registers, address, rest.first())
            }
            _ => return bad("two operands expected"),
        };
        let (rows, columns) = match i.modifiers().find(|name| matches!(*name, "a" | "b" | "c" | "d")) {
            Some("a") => (m, k),
            Some("b") => (k, n),
            _ => (m, n),
        };
        let by_column = i.has("col");
        let space = self.space(i);
        let address = self.address(address, space)?;
        let tile = self.tile(registers, element, Spread::Flat, rows, columns)?;
        let line = if by_column { rows } else { columns };
        let b = match stride {
            Some(stride) => self.source(stride, Type::U32)?,
            None => self.constant(4, u64::from(line)),
        };
        let a = if address.wide { address.slot } else { self.resized(address.slot, 4, 8, false)? };
        let space = if matches!(address.space, GLOBAL | SHARED) { address.space } else { GENERIC };
        let imm = u64::try_from(self.tile_moves.len()).unwrap_or(0);
        self.tile_moves.push(TileMove { tile, by_column, space, offset: address.offset, is_store });
        self.warp_op(matrix::move_tile, Op { a, b, imm, ..Op::new(matrix::move_tile, 0) });
        Ok(())
    }

    /// `ldmatrix` and `stmatrix` of 8x8 tiles of 16-bit elements.
    fn eights(&mut self, i: &Instruction<'a>) -> Step {
        let is_store = i.opcode() == "stmatrix";
        let (registers, address) = match (is_store, i.operands.as_slice()) {
            (false, [registers, address]) | (true, [address, registers]) => (registers, address),
            _ => return bad("two operands expected"),
        };
        if !i.has("m8n8") || !types(i).contains(&Type::B16) {
            return Err(Problem::Unknown);
        }
        let registers = match registers {
            Operand::Vector(all) => all.as_slice(),
            single => std::slice::from_ref(single),
        };
        let slots = registers.iter().map(|register| self.source(register, Type::B32)).collect::<Step<Vec<u32>>>()?;
        let run = eights_op(slots.len(), i.has("trans"), is_store).ok_or(Problem::Unknown)?;
        let a = self.generic_address(address, Space::Shared)?;
        let at = |n: usize| slots.get(n).copied().unwrap_or(0);
        self.warp_op(run, Op { d: at(0), b: at(1), c: at(2), imm: u64::from(at(3)), a, ..Op::new(run, 0) });
        Ok(())
    }

    /// A slot with the generic address that an operand means; `space` where no modifier says so.
    pub(super) fn generic_address(&mut self, operand: &Operand<'a>, space: Space) -> Step<u32> {
        let address = self.address(operand, space)?;
        let slot = if address.wide { address.slot } else { self.resized(address.slot, 4, 8, false)? };
        // An address that lies in its window already is generic: programs pass both.
        let window = if address.space == SHARED { SHARED_BASE } else { 0 };
        let (window, offset, sum) = (self.constant(8, window), self.constant(8, address.offset), self.temporary(8));
        let run = if address.wide {
            ternary(|a: u64, b: u64, window: u64| a.wrapping_add(b) | window)
        } else {
            // A sum in 32 bits wraps there.
            ternary(|a: u64, b: u64, window: u64| a.wrapping_add(b) & 0xffff_ffff | window)
        };
        self.emit(run, sum, slot, offset, window);
        Ok(sum)
    }
}
