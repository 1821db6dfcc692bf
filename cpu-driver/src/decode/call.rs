//! Call sites: which function, and where its arguments and results go. Arguments follow each other
//! in the callee's local memory, results behind them, by the same layout rule that the callee uses.
//! So a caller that expects a result which the callee does not have passes its arguments all the same.

use super::function::Decoder;
use super::slots::{Base, width};
use super::symbols::layout;
use super::{Step, bad};
use crate::exec::call;
use crate::exec::function::{Argument, Builtin, CallSite, ParamLayout, Special, Target};
use crate::exec::op::Op;
use crate::ptx::ast::{Instruction, Named, Operand, Variable};
use crate::ptx::types::{Space, Type};

/// Returns and parameters of a callee.
type Signature<'a> = (Vec<Variable<'a>>, Vec<Variable<'a>>);

impl<'a> Decoder<'_, 'a> {
    /// `call (returns), callee, (parameters)[, prototype]`, each list optional.
    pub(super) fn call(&mut self, i: &Instruction<'a>) -> Step {
        let (mut returns, mut rest) = (&[][..], i.operands.as_slice());
        if let Some((Operand::List(list), after)) = rest.split_first() {
            (returns, rest) = (list.as_slice(), after);
        }
        let Some((callee, rest)) = rest.split_first() else { return bad("no callee") };
        let parameters = match rest.first() {
            Some(Operand::List(list)) => list.as_slice(),
            _ => &[],
        };
        let (target, signature) = self.callee(callee, rest.get(1))?;
        let variables: Vec<Variable<'a>> = signature.1.iter().chain(&signature.0).cloned().collect();
        let (places, _) = layout(&variables, 0);
        if signature.0.len() != returns.len() || signature.1.len() != parameters.len() {
            return bad("arguments do not match the callee's declaration");
        }
        let (argument_places, result_places) = places.split_at(parameters.len());
        let types = |list: &[Variable<'a>]| list.iter().map(|variable| variable.ty).collect::<Vec<_>>();
        let arguments = self.arguments(parameters, argument_places, &types(&signature.1), false)?;
        let results = self.arguments(returns, result_places, &types(&signature.0), true)?;
        let has_results = !results.is_empty() && !matches!(target, Target::Builtin(_));
        let number = u64::try_from(self.calls.len()).unwrap_or(0);
        self.calls.push(CallSite { target, arguments, results });
        self.note_call();
        self.ops.push(Op { imm: number, ..Op::new(call::call, self.line) });
        if has_results {
            self.ops.push(Op { imm: number, ..Op::new(call::results, self.line) });
        }
        Ok(())
    }

    fn callee(&mut self, operand: &Operand<'a>, prototype: Option<&Operand<'a>>) -> Step<(Target, Signature<'a>)> {
        match operand {
            Operand::Name(name, _) => {
                let declared = self.symbols.declared.get(name).and_then(|index| self.module.functions.get(*index));
                let (Some(&number), Some(function)) = (self.symbols.functions.get(name), declared) else {
                    return bad(format!("function `{name}` is not declared"));
                };
                let target = match Builtin::named(name) {
                    Some(builtin) if self.symbols.undefined.contains(name) => Target::Builtin(builtin),
                    _ => Target::Function(number),
                };
                Ok((target, (function.returns.clone(), function.params.clone())))
            }
            Operand::Register(register) => {
                let slot = self.register(*register);
                let Some(Operand::Name(name, _)) = prototype else { return bad("indirect call without a prototype") };
                match self.body.lookup(self.scope, name) {
                    Some(Named::Prototype(returns, params)) => {
                        Ok((Target::Indirect(slot), (returns.clone(), params.clone())))
                    }
                    _ => bad(format!("prototype `{name}` is not declared")),
                }
            }
            _ => bad("what is called is no function"),
        }
    }

    fn arguments(
        &mut self,
        operands: &[Operand<'a>],
        places: &[ParamLayout],
        types: &[Type],
        written: bool,
    ) -> Step<Vec<Argument>> {
        let mut all = Vec::with_capacity(operands.len());
        for ((operand, place), ty) in operands.iter().zip(places).zip(types) {
            let (there, size) = (place.offset, place.size);
            if let Operand::Name(name, _) = operand
                && let Some((Space::Local, Base::Special(Special::FrameLocal, here))) = self.place(name)
            {
                all.push(Argument::Local { here, there, size });
                continue;
            }
            let slot = match operand {
                Operand::Sink => continue,
                Operand::Register(register) if written => {
                    if width(self.register_type(*register)) != size {
                        return bad("the result's register has another size");
                    }
                    self.register(*register)
                }
                _ => self.source(operand, *ty)?,
            };
            all.push(Argument::Slot { slot, there, size });
        }
        Ok(all)
    }
}
