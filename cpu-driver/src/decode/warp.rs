//! Operations among the lanes of a warp: shuffles, votes, matches and reductions.

use super::function::{Decoder, types};
use super::{Problem, Step, bad};
use crate::exec::op::{Op, Run};
use crate::exec::sync;
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::types::Type;

impl<'a> Decoder<'_, 'a> {
    pub(super) fn warp(&mut self, i: &Instruction<'a>) -> Step {
        match i.opcode() {
            "shfl" => self.shuffle(i),
            "vote" => self.vote(i),
            "match" => self.matching(i),
            "redux" => self.redux(i),
            "elect" => match i.operands.as_slice() {
                [pair, members] => self.elect(pair, members),
                _ => bad("two operands expected"),
            },
            _ => {
                let [d] = i.operands.as_slice() else { return bad("one operand expected") };
                let d = self.destination(d, Type::B32)?;
                self.emit(sync::active_mask, d.slot, 0, 0, 0);
                self.finish(d);
                Ok(())
            }
        }
    }

    /// Member masks: the last operand of `.sync` forms; forms without go by the active lanes, for
    /// which a mask of no lane stands.
    fn members(&mut self, i: &Instruction<'a>, at: usize) -> Step<u32> {
        if !i.has("sync") {
            return Ok(self.constant(4, 0));
        }
        match i.operands.get(at) {
            Some(operand) => self.source(operand, Type::B32),
            None => bad("member mask missing"),
        }
    }

    /// A destination with or without a predicate beside it.
    fn paired<'o>(&mut self, operand: &'o Operand<'a>) -> Step<(&'o Operand<'a>, u32)> {
        match operand {
            Operand::Pair(value, predicate) => {
                let slot = self.destination(predicate, Type::Pred)?.slot;
                Ok((value, slot))
            }
            other => Ok((other, self.temporary(0))),
        }
    }

    fn shuffle(&mut self, i: &Instruction<'a>) -> Step {
        let [d, a, b, c, ..] = i.operands.as_slice() else { return bad("four operands expected") };
        let (d, predicate) = self.paired(d)?;
        let (a, b, c) = (self.source(a, Type::B32)?, self.source(b, Type::B32)?, self.source(c, Type::B32)?);
        let members = self.members(i, 4)?;
        let d = self.destination(d, Type::B32)?;
        let mode = match i.modifiers().find(|m| matches!(*m, "up" | "down" | "bfly" | "idx")) {
            Some("up") => sync::SHUFFLE_UP,
            Some("down") => sync::SHUFFLE_DOWN,
            Some("bfly") => sync::SHUFFLE_BUTTERFLY,
            Some("idx") => sync::SHUFFLE_INDEX,
            _ => return Err(Problem::Unknown),
        };
        let op = Op::new(sync::shuffle_op(mode), self.line);
        self.ops.push(Op { d: d.slot, a, b, c, e: members, imm: u64::from(predicate), ..op });
        self.finish(d);
        Ok(())
    }

    fn vote(&mut self, i: &Instruction<'a>) -> Step {
        let [d, a, ..] = i.operands.as_slice() else { return bad("two operands expected") };
        let (a, negated) = match a {
            Operand::Not(inner) => (self.source(inner, Type::Pred)?, 1),
            other => (self.source(other, Type::Pred)?, 0),
        };
        let members = self.members(i, 2)?;
        let mode = match i.modifiers().find(|m| matches!(*m, "all" | "any" | "uni" | "ballot")) {
            Some("all") => sync::VOTE_ALL,
            Some("any") => sync::VOTE_ANY,
            Some("uni") => sync::VOTE_UNIFORM,
            Some("ballot") => sync::VOTE_BALLOT,
            _ => return Err(Problem::Unknown),
        };
        let d = self.destination(d, if mode == sync::VOTE_BALLOT { Type::B32 } else { Type::Pred })?;
        let op = Op::new(sync::vote_op(mode), self.line);
        self.ops.push(Op { d: d.slot, a, c: negated, e: members, ..op });
        self.finish(d);
        Ok(())
    }

    fn matching(&mut self, i: &Instruction<'a>) -> Step {
        let [d, a, members] = i.operands.as_slice() else { return bad("three operands expected") };
        let wide = types(i).first().is_some_and(|ty| ty.size() == 8);
        let (d, predicate) = self.paired(d)?;
        let a = self.source(a, if wide { Type::B64 } else { Type::B32 })?;
        let members = self.source(members, Type::B32)?;
        let d = self.destination(d, Type::B32)?;
        let op = Op::new(sync::match_op(wide, i.has("all")), self.line);
        self.ops.push(Op { d: d.slot, a, e: members, imm: u64::from(predicate), ..op });
        self.finish(d);
        Ok(())
    }

    fn redux(&mut self, i: &Instruction<'a>) -> Step {
        let [d, a, members] = i.operands.as_slice() else { return bad("three operands expected") };
        let ty = types(i).first().copied().unwrap_or(Type::B32);
        let operation = i.modifiers().find(|m| matches!(*m, "add" | "min" | "max" | "and" | "or" | "xor"));
        let run: Run = match (operation, ty) {
            (Some("add"), _) => sync::reduce_op(u32::wrapping_add),
            (Some("and"), _) => sync::reduce_op(|a, b| a & b),
            (Some("or"), _) => sync::reduce_op(|a, b| a | b),
            (Some("xor"), _) => sync::reduce_op(|a, b| a ^ b),
            (Some("min"), Type::S32) => sync::reduce_op(|a, b| a.cast_signed().min(b.cast_signed()).cast_unsigned()),
            (Some("max"), Type::S32) => sync::reduce_op(|a, b| a.cast_signed().max(b.cast_signed()).cast_unsigned()),
            (Some("min"), Type::U32) => sync::reduce_op(u32::min),
            (Some("max"), Type::U32) => sync::reduce_op(u32::max),
            _ => return Err(Problem::Unknown),
        };
        let (a, members) = (self.source(a, ty)?, self.source(members, Type::B32)?);
        let d = self.destination(d, ty)?;
        self.ops.push(Op { d: d.slot, a, e: members, ..Op::new(run, self.line) });
        self.finish(d);
        Ok(())
    }

    fn elect(&mut self, pair: &Operand<'a>, members: &Operand<'a>) -> Step {
        let (d, predicate) = self.paired(pair)?;
        let members = self.source(members, Type::B32)?;
        let d = self.destination(d, Type::B32)?;
        self.ops.push(Op { d: d.slot, e: members, imm: u64::from(predicate), ..Op::new(sync::elect, self.line) });
        self.finish(d);
        Ok(())
    }

    /// `d = f(a, b)`, both of type `ty`.
    pub(super) fn two(&mut self, i: &Instruction<'a>, ty: Type, run: Run) -> Step {
        let [d, a, b] = i.operands.as_slice() else { return bad("three operands expected") };
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let d = self.destination(d, ty)?;
        self.emit(run, d.slot, a, b, 0);
        self.finish(d);
        Ok(())
    }

    /// `d = f(a)`, both of type `ty`.
    pub(super) fn one(&mut self, i: &Instruction<'a>, ty: Type, run: Run) -> Step {
        let [d, a] = i.operands.as_slice() else { return bad("two operands expected") };
        let a = self.source(a, ty)?;
        let d = self.destination(d, ty)?;
        self.emit(run, d.slot, a, 0, 0);
        self.finish(d);
        Ok(())
    }

    /// `d = f(a, b, c)`, all of type `ty`.
    pub(super) fn three(&mut self, i: &Instruction<'a>, ty: Type, run: Run) -> Step {
        let [d, a, b, c] = i.operands.as_slice() else { return bad("four operands expected") };
        let (a, b, c) = (self.source(a, ty)?, self.source(b, ty)?, self.source(c, ty)?);
        let d = self.destination(d, ty)?;
        self.emit(run, d.slot, a, b, c);
        self.finish(d);
        Ok(())
    }
}
