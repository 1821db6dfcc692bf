//! Extended-precision arithmetic: additions and multiply-adds that bring in and leave a carry.
//! The carry flag is a hidden predicate of the frame.

use super::arithmetic::{mul_hi, mul_lo};
use super::function::Decoder;
use super::{Problem, Step, bad};
use crate::exec::lanes::{logic, test, with_predicate};
use crate::exec::op::Run;
use crate::ptx::ast::Instruction;
use crate::ptx::types::Type;

/// a + b + carry, and the carry out; for differences a - b - borrow, and the borrow out.
macro_rules! step {
    ($int:ty, $operation:ident, $out:ident) => {
        (
            with_predicate(|a: $int, b: $int, c: bool| a.$operation(b).$operation(<$int>::from(c))),
            with_predicate(|a: $int, b: $int, c: bool| {
                let (first, one) = a.$out(b);
                u32::from(one | first.$out(<$int>::from(c)).1)
            }),
        )
    };
}

impl<'a> Decoder<'_, 'a> {
    pub(super) fn with_carry(&mut self, i: &Instruction<'a>, ty: Type) -> Step {
        let opcode = i.opcode();
        let takes_carry = matches!(opcode, "addc" | "subc" | "madc");
        let (d, a, b) = match i.operands.as_slice() {
            [d, a, b] if !matches!(opcode, "mad" | "madc") => (d, self.source(a, ty)?, self.source(b, ty)?),
            [d, a, b, c] if matches!(opcode, "mad" | "madc") => {
                let (a, b, c) = (self.source(a, ty)?, self.source(b, ty)?, self.source(c, ty)?);
                let product = self.temporary(ty.size());
                let run = if i.has("hi") { mul_hi(ty)? } else { mul_lo(ty)? };
                self.emit(run, product, a, b, 0);
                (d, product, c)
            }
            _ => return bad("wrong number of operands"),
        };
        let is_sub = matches!(opcode, "sub" | "subc");
        let (value, carry_out): (Run, Run) = match (ty.size(), is_sub) {
            (4, false) => step!(u32, wrapping_add, overflowing_add),
            (4, true) => step!(u32, wrapping_sub, overflowing_sub),
            (8, false) => step!(u64, wrapping_add, overflowing_add),
            (8, true) => step!(u64, wrapping_sub, overflowing_sub),
            _ => return Err(Problem::Unknown),
        };
        let flag = self.carry_flag();
        let carry_in = if takes_carry { flag } else { self.constant(0, 0) };
        // The result may overwrite a source, so the carry is computed first, into a value of its own.
        let out = self.temporary(4);
        self.emit(carry_out, out, a, b, carry_in);
        let d = self.destination(d, ty)?;
        self.emit(value, d.slot, a, b, carry_in);
        if i.has("cc") {
            let zero = self.constant(4, 0);
            let flag_now = self.temporary(0);
            self.emit(test(|a: u32, b: u32| a != b), flag_now, out, zero, 0);
            self.emit(logic(|a, _| a), flag, flag_now, flag_now, 0);
        }
        self.finish(d);
        Ok(())
    }
}
