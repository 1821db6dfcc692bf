//! Asynchronous copies and the barriers that wait for them. A copy is done when its instruction is,
//! so groups are always complete and barriers get their bytes at once.

use super::function::{Decoder, types};
use super::memory::elements;
use super::{Problem, Step, bad};
use crate::exec::access::{Shape, store_op};
use crate::exec::address::GENERIC;
use crate::exec::lanes::{unary, with_predicate};
use crate::exec::mbarrier::{self, ARRIVE, ARRIVE_DROP, COMPLETE, EXPECT, EXPECT_ARRIVE, EXPECT_ARRIVE_DROP, INIT};
use crate::exec::op::Op;
use crate::exec::control;
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::types::{Space, Type};

impl<'a> Decoder<'_, 'a> {
    fn nothing(&mut self) -> Step {
        self.emit(control::nothing, 0, 0, 0, 0);
        Ok(())
    }

    /// A generic address in the space that the modifiers name, else in shared memory.
    fn barrier_address(&mut self, i: &Instruction<'a>, operand: &Operand<'a>) -> Step<u32> {
        let shared = i.modifiers().any(|m| Space::from_name(m) == Some(Space::Shared));
        self.generic_address(operand, if shared { Space::Shared } else { Space::Generic })
    }

    pub(super) fn mbarrier(&mut self, i: &Instruction<'a>) -> Step {
        match i.modifiers().next() {
            Some("init") => self.barrier_change(i, INIT, &Operand::Sink, &i.operands),
            Some("inval") => self.nothing(),
            Some("expect_tx") => self.barrier_change(i, EXPECT, &Operand::Sink, &i.operands),
            Some("complete_tx") => self.barrier_change(i, COMPLETE, &Operand::Sink, &i.operands),
            Some(name @ ("arrive" | "arrive_drop")) => {
                let kind = match (name, i.has("expect_tx")) {
                    ("arrive", false) => ARRIVE,
                    ("arrive", true) => EXPECT_ARRIVE,
                    (_, false) => ARRIVE_DROP,
                    (_, true) => EXPECT_ARRIVE_DROP,
                };
                // On another CTA's barrier there is no state to return.
                match i.operands.split_first() {
                    Some((Operand::Address(..), _)) => self.barrier_change(i, kind, &Operand::Sink, &i.operands),
                    Some((state, rest)) => self.barrier_change(i, kind, state, rest),
                    None => bad("operands missing"),
                }
            }
            Some("test_wait" | "try_wait") => self.barrier_test(i),
            Some("pending_count") => {
                let [d, state] = i.operands.as_slice() else { return bad("two operands expected") };
                let state = self.source(state, Type::B64)?;
                let d = self.destination(d, Type::B32)?;
                self.emit(unary(mbarrier::pending), d.slot, state, 0, 0);
                self.finish(d);
                Ok(())
            }
            _ => Err(Problem::Unknown),
        }
    }

    fn barrier_change(&mut self, i: &Instruction<'a>, kind: u8, state: &Operand<'a>, rest: &[Operand<'a>]) -> Step {
        let Some((address, rest)) = rest.split_first() else { return bad("an address expected") };
        let a = self.barrier_address(i, address)?;
        let b = match rest.first() {
            Some(count) => self.source(count, Type::B32)?,
            None => self.constant(4, 1),
        };
        let d = self.destination(state, Type::B64)?;
        self.emit(mbarrier::change_op(kind), d.slot, a, b, 0);
        self.finish(d);
        Ok(())
    }

    /// `test_wait d, [address], state` and `.parity d, [address], parity`; a time limit may follow.
    fn barrier_test(&mut self, i: &Instruction<'a>) -> Step {
        let [d, address, waited, ..] = i.operands.as_slice() else { return bad("three operands expected") };
        let parity = i.has("parity");
        let a = self.barrier_address(i, address)?;
        let b = self.source(waited, if parity { Type::B32 } else { Type::B64 })?;
        let d = self.destination(d, Type::Pred)?.slot;
        self.emit(mbarrier::test_op(parity), d, a, b, 0);
        Ok(())
    }

    /// Tells the barrier of an operand that so many bytes have come.
    fn complete(&mut self, barrier: &Operand<'a>, bytes: u32) -> Step {
        let a = self.generic_address(barrier, Space::Shared)?;
        let d = self.temporary(8);
        self.emit(mbarrier::change_op(COMPLETE), d, a, bytes, 0);
        Ok(())
    }

    /// `cp.async` and `cp.async.bulk`.
    pub(super) fn copy_async(&mut self, i: &Instruction<'a>) -> Step {
        if i.has("commit_group") || i.has("wait_group") || i.has("wait_all") || i.has("prefetch") {
            return self.nothing();
        }
        if i.has("mbarrier") {
            // What arrives for copies that are done leaves the count as it is, unless it was counted in.
            return match i.has("noinc") {
                true => self.barrier_change(i, ARRIVE, &Operand::Sink, &i.operands),
                false => self.nothing(),
            };
        }
        if i.has("tensor") || i.has("reduce") || i.has("multicast::cluster") {
            return Err(Problem::Unknown);
        }
        if i.has("bulk") { self.copy_bulk(i) } else { self.copy_small(i) }
    }

    /// `cp.async.ca.shared.global [to], [from], size{, bytes to read | predicate to read none}`.
    fn copy_small(&mut self, i: &Instruction<'a>) -> Step {
        let hint = usize::from(i.modifiers().any(|m| m.starts_with("L2::cache_hint")));
        let operands = i.operands.get(..i.operands.len().saturating_sub(hint)).unwrap_or(&[]);
        let [to, from, Operand::Int(size), rest @ ..] = operands else { return Err(Problem::Unknown) };
        if !matches!(size, 4 | 8 | 16) {
            return bad("a copy of 4, 8 or 16 bytes expected");
        }
        let all = self.constant(4, *size);
        let b = match rest.first() {
            None => all,
            Some(operand) => match operand {
                Operand::Register(register) if self.register_type(*register) == Type::Pred => {
                    let (ignored, zero, count) = (self.source(operand, Type::Pred)?, self.constant(4, 0), self.temporary(4));
                    self.emit(with_predicate(|a: u32, b: u32, p: bool| if p { b } else { a }), count, all, zero, ignored);
                    count
                }
                other => self.source(other, Type::B32)?,
            },
        };
        let (d, a) = (self.generic_address(to, Space::Shared)?, self.generic_address(from, Space::Global)?);
        self.ops.push(Op { d, a, b, imm: *size, ..Op::new(mbarrier::copy, self.line) });
        Ok(())
    }

    /// `cp.async.bulk.to.from.…  [to], [from], size{, [barrier]}`.
    fn copy_bulk(&mut self, i: &Instruction<'a>) -> Step {
        let [to, from, size, rest @ ..] = i.operands.as_slice() else { return bad("three operands expected") };
        let spaces: Vec<Space> = i.modifiers().filter_map(Space::from_name).collect();
        let [to_space, from_space] = spaces[..] else { return Err(Problem::Unknown) };
        let (d, a) = (self.generic_address(to, to_space)?, self.generic_address(from, from_space)?);
        let b = self.source(size, Type::B32)?;
        self.ops.push(Op { d, a, b, imm: 0, ..Op::new(mbarrier::copy, self.line) });
        match rest.first() {
            Some(barrier @ Operand::Address(..)) => self.complete(barrier, b),
            _ => Ok(()),
        }
    }

    /// `st.async.…  [address], value, [barrier]`.
    pub(super) fn store_async(&mut self, i: &Instruction<'a>) -> Step {
        let ([address, value, barrier], Some(ty)) = (i.operands.as_slice(), types(i).last().copied()) else {
            return bad("three operands expected");
        };
        let values = elements(value).iter().map(|element| self.source(element, ty)).collect::<Step<Vec<u32>>>()?;
        if !matches!(values.len(), 1 | 2 | 4) || ty.size() > 8 {
            return Err(Problem::Unknown);
        }
        let a = self.generic_address(address, Space::Shared)?;
        let shape = Shape { space: GENERIC, size: ty.size(), count: values.len(), wide: true };
        let at = |n: usize| values.get(n).copied().unwrap_or(0);
        self.ops.push(Op { d: at(0), b: at(1), c: at(2), e: at(3), a, ..Op::new(store_op(shape), self.line) });
        let bytes = self.constant(4, u64::from(ty.size()) * u64::try_from(values.len()).unwrap_or(0));
        self.complete(barrier, bytes)
    }

    /// `red.async`: what a plain reduction does, then the barrier's bytes.
    pub(super) fn completes(&mut self, barrier: &Operand<'a>, ty: Type) -> Step {
        let bytes = self.constant(4, u64::from(ty.size()));
        self.complete(barrier, bytes)
    }
}
