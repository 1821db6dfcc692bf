//! Branches, returns, barriers, fences and hints.

use super::function::Decoder;
use super::{Problem, Step, bad};
use crate::exec::{barrier, control, sync};
use crate::exec::op::Op;
use crate::ptx::ast::{Instruction, Operand};
use crate::ptx::types::Type;

impl<'a> Decoder<'_, 'a> {
    pub(super) fn control(&mut self, i: &Instruction<'a>) -> Step {
        match i.opcode() {
            "bra" => match i.operands.first() {
                Some(Operand::Name(label, _)) => self.jump(label),
                _ => bad("no label"),
            },
            "brx" => match i.operands.as_slice() {
                [index, Operand::Name(table, _)] => {
                    let index = self.source(index, Type::U32)?;
                    self.jump_indexed(index, table)
                }
                _ => Err(Problem::Unknown),
            },
            "ret" => {
                self.move_registers(false).map_err(|error| Problem::Bad(error.what))?;
                self.plain(control::ret)
            }
            "exit" => self.plain(control::exit),
            "trap" => self.plain(control::trap),
            "bar" | "barrier" => self.barrier(i),
            "membar" | "fence" => self.plain(control::fence),
            "nanosleep" => self.plain(control::nanosleep),
            "brkpt" | "pmevent" | "griddepcontrol" | "setmaxnreg" => self.plain(control::nothing),
            _ => Err(Problem::Unknown),
        }
    }

    fn plain(&mut self, run: crate::exec::op::Run) -> Step {
        self.emit(run, 0, 0, 0, 0);
        Ok(())
    }

    fn barrier(&mut self, i: &Instruction<'a>) -> Step {
        if i.has("cluster") {
            // Clusters are one CTA here, whose warps meet at its own barrier.
            return if i.has("arrive") { self.plain(control::fence) } else { self.whole_barrier() };
        }
        if i.has("warp") {
            let [members] = i.operands.as_slice() else { return bad("one operand expected") };
            let members = self.source(members, Type::U32)?;
            self.ops.push(Op { e: members, ..Op::new(sync::warp_sync, self.line) });
            return Ok(());
        }
        if i.has("red") {
            return self.barrier_reduction(i);
        }
        let (number, count) = match i.operands.as_slice() {
            [] => return self.whole_barrier(),
            [number] => (self.source(number, Type::U32)?, self.constant(4, 0)),
            [number, count] => (self.source(number, Type::U32)?, self.source(count, Type::U32)?),
            _ => return bad("too many operands"),
        };
        let run = if i.has("arrive") { barrier::arrive_only } else { barrier::sync };
        self.emit(run, 0, number, count, 0);
        Ok(())
    }

    fn whole_barrier(&mut self) -> Step {
        let zero = self.constant(4, 0);
        self.emit(barrier::sync, 0, zero, zero, 0);
        Ok(())
    }

    /// `bar.red.op d, a{, b}, {!}c`.
    fn barrier_reduction(&mut self, i: &Instruction<'a>) -> Step {
        let (d, number, count, truth) = match i.operands.as_slice() {
            [d, number, truth] => (d, number, self.constant(4, 0), truth),
            [d, number, count, truth] => (d, number, self.source(count, Type::U32)?, truth),
            _ => return bad("three or four operands expected"),
        };
        let (truth, negated) = match truth {
            Operand::Not(inner) => (self.source(inner, Type::Pred)?, 1),
            other => (self.source(other, Type::Pred)?, 0),
        };
        let kind = if i.has("popc") { 2 } else { u64::from(i.has("or")) };
        let number = self.source(number, Type::U32)?;
        let d = self.destination(d, if kind == 2 { Type::U32 } else { Type::Pred })?;
        let run = barrier::reduce;
        self.ops.push(Op { d: d.slot, a: number, b: count, c: truth, e: negated, imm: kind, ..Op::new(run, self.line) });
        self.finish(d);
        Ok(())
    }
}
