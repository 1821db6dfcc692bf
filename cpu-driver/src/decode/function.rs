//! Walks a function's body: places its variables, decodes instruction by instruction, puts guards
//! before guarded operations and joins before labels, and resolves branches at the end.

use super::slots::{Base, width};
use super::symbols::{Symbols, layout};
use super::{Problem, Step};
use crate::exec::access::{Shape, load_op, store_op};
use crate::exec::address::LOCAL;
use crate::exec::control;
use crate::exec::function::{CallSite, Function, ParamLayout, Special};
use crate::exec::matrix::{Product, TileMove};
use crate::exec::op::{Op, Run};
use crate::ptx::ast::{self, Body, Instruction, Module, Named, Operand, Reg, Scope, Variable};
use crate::ptx::types::{Space, Type};
use crate::ptx::{Result, SyntaxError};
use std::collections::HashMap;

/// Decodes every function of `module`.
///
/// # Errors
/// The first instruction that breaks PTX's rules. What this driver merely does not execute is no
/// error here: it traps when it is reached.
pub fn functions(module: &Module<'_>, symbols: &Symbols<'_>) -> Result<Vec<Function>> {
    let mut all = module.functions.iter().map(|function| decode(module, symbols, function)).collect::<Result<Vec<_>>>()?;
    // A device function's callees are not known here, so every kernel with calls may reach the
    // common shared variables.
    for function in all.iter_mut().filter(|function| function.is_entry && function.has_calls) {
        function.shared_size = function.shared_size.max(symbols.common_size);
    }
    Ok(all)
}

/// A function being decoded.
pub(super) struct Decoder<'m, 'a> {
    pub(super) module: &'m Module<'a>,
    pub(super) symbols: &'m Symbols<'a>,
    pub(super) body: &'m Body<'a>,
    pub(super) out: Function,
    pub(super) ops: Vec<Op>,
    pub(super) line: u32,
    pub(super) scope: Scope,
    pub(super) next_slot: u32,
    pub(super) registers: HashMap<Reg, u32>,
    /// Slots of constants by width and value.
    pub(super) constants: HashMap<(u32, u64), u32>,
    /// Width, slot, and whether the present instruction uses it.
    pub(super) temporaries: Vec<(u32, u32, bool)>,
    /// Places of `Body::variables`.
    pub(super) variables: Vec<(Space, Base)>,
    /// Places of the function's own parameters and results.
    pub(super) parameters: HashMap<&'a str, (Space, Base)>,
    pub(super) shared_places: HashMap<&'a str, u32>,
    pub(super) calls: Vec<CallSite>,
    pub(super) products: Vec<Product>,
    pub(super) tile_moves: Vec<TileMove>,
    /// The slot of the carry flag, once an instruction has used it.
    pub(super) carry: Option<u32>,
    tables: Vec<Box<[u32]>>,
    texts: Vec<String>,
    /// Operations whose `imm` becomes the distance to a label.
    fixups: Vec<(usize, u32)>,
    table_fixups: Vec<(usize, Vec<u32>)>,
    has_calls: bool,
    /// Where results begin, behind the parameters.
    results_at: u32,
}

/// How an instruction behaves towards guards.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Works on the active lanes and goes on.
    Simple,
    /// Ends, waits or goes elsewhere, so a guard must be a branch around it.
    Control,
}

/// Where an entry's parameters lie.
pub fn params(entry: &ast::Function<'_>) -> Vec<ParamLayout> {
    layout(&entry.params, 0).0
}

fn decode(module: &Module<'_>, symbols: &Symbols<'_>, function: &ast::Function<'_>) -> Result<Function> {
    let is_entry = function.is_entry;
    let header: Vec<Variable<'_>> = function.params.iter().chain(&function.returns).cloned().collect();
    let (places, end) = layout(&header, 0);
    let mut out = Function {
        name: function.name.to_owned(),
        is_entry,
        params: places.iter().take(function.params.len()).copied().collect(),
        param_size: end,
        max_threads: function.max_threads,
        required_block: function.required_block,
        max_registers: function.max_registers.into_iter().chain(module.max_registers).min(),
        ..Function::default()
    };
    let Some(body) = &function.body else {
        return Ok(out);
    };
    out.local_size = if is_entry { 0 } else { end };
    out.shared_size = if is_entry { 0 } else { symbols.common_size };
    let mut decoder = Decoder {
        module,
        symbols,
        body,
        out,
        ops: Vec::new(),
        line: function.line,
        scope: Scope(0),
        next_slot: 0,
        registers: HashMap::new(),
        constants: HashMap::new(),
        temporaries: Vec::new(),
        variables: Vec::new(),
        parameters: HashMap::new(),
        shared_places: HashMap::new(),
        calls: Vec::new(),
        products: Vec::new(),
        tile_moves: Vec::new(),
        carry: None,
        tables: Vec::new(),
        texts: Vec::new(),
        fixups: Vec::new(),
        table_fixups: Vec::new(),
        has_calls: false,
        results_at: places.get(function.params.len()).map_or(u32::MAX, |place| place.offset),
    };
    for (variable, place) in header.iter().zip(&places) {
        decoder.place_parameter(variable, *place, is_entry);
    }
    decoder.place_variables();
    decoder.run()
}

impl<'a> Decoder<'_, 'a> {
    fn place_parameter(&mut self, variable: &Variable<'a>, place: ParamLayout, is_entry: bool) {
        let base = if is_entry {
            (Space::Param, Base::Fixed(u64::from(place.offset)))
        } else {
            (Space::Local, Base::Special(Special::FrameLocal, place.offset))
        };
        self.parameters.insert(variable.name, base);
    }

    fn place_variables(&mut self) {
        for (number, variable) in self.body.variables.iter().enumerate() {
            let common = self.symbols.in_bodies.get(&(self.out.name.as_str(), number)).copied();
            let place = match variable.space {
                Space::Shared if common.is_some() => {
                    (Space::Shared, Base::Fixed(u64::from(common.unwrap_or_default())))
                }
                Space::Shared if variable.size == 0 => (Space::Shared, Base::Special(Special::StaticShared, 0)),
                Space::Shared => {
                    let (places, end) = layout(std::slice::from_ref(variable), self.shared_start());
                    self.out.shared_size = end;
                    (Space::Shared, Base::Fixed(u64::from(places[0].offset)))
                }
                _ => {
                    let (places, end) = layout(std::slice::from_ref(variable), self.out.local_size);
                    self.out.local_size = end;
                    (Space::Local, Base::Special(Special::FrameLocal, places[0].offset))
                }
            };
            self.variables.push(place);
        }
    }

    /// Where the kernel's next own shared variable may begin.
    pub(super) fn shared_start(&self) -> u32 {
        self.out.shared_size.max(self.symbols.common_size)
    }

    /// Places a module-scope shared variable that only kernels use: in each where it fits.
    pub(super) fn place_shared(&mut self, variable: &Variable<'a>) -> u32 {
        if let Some(offset) = self.shared_places.get(variable.name) {
            return *offset;
        }
        let (places, end) = layout(std::slice::from_ref(variable), self.shared_start());
        self.out.shared_size = end;
        self.shared_places.insert(variable.name, places[0].offset);
        places[0].offset
    }

    fn run(mut self) -> Result<Function> {
        let body = self.body;
        let label_of = |named: &Named<'_>| match named {
            Named::Label(at) => Some(*at as usize),
            _ => None,
        };
        let mut is_target = vec![false; body.instructions.len() + 1];
        body.names.values().flatten().filter_map(|(_, named)| label_of(named)).for_each(|at| is_target[at] = true);
        self.move_registers(true)?;
        // Operation that a branch to each instruction goes to.
        let mut starts = Vec::with_capacity(is_target.len());
        for (number, instruction) in body.instructions.iter().enumerate() {
            if is_target[number] {
                self.emit(control::join, 0, 0, 0, 0);
            }
            starts.push(self.ops.len());
            self.instruction(instruction)?;
        }
        starts.push(self.ops.len());
        // Falling off the end is a return.
        self.move_registers(false)?;
        self.emit(control::ret, 0, 0, 0, 0);
        self.resolve(&starts);
        self.out.is_empty = self.out.is_entry
            && body.instructions.iter().all(|i| i.guard.is_none() && matches!(i.opcode(), "ret" | "exit"));
        self.out.registers = u32::try_from(self.registers.len()).unwrap_or(u32::MAX);
        self.out.frame_size = self.next_slot.next_multiple_of(crate::exec::frame::SLOT_ALIGN);
        self.out.has_calls = self.has_calls;
        self.out.ops = self.ops.into_boxed_slice();
        self.out.calls = self.calls.into_boxed_slice();
        self.out.products = self.products.into_boxed_slice();
        self.out.tile_moves = self.tile_moves.into_boxed_slice();
        self.out.texts = self.texts.into_boxed_slice();
        self.out.branch_tables = self.tables.into_boxed_slice();
        Ok(self.out)
    }

    /// Parameters in registers are fetched as a function begins, results in registers left behind
    /// as it returns.
    pub(super) fn move_registers(&mut self, at_start: bool) -> Result<()> {
        for (name, register) in &self.body.in_registers {
            let Some((_, Base::Special(special, offset))) = self.parameters.get(name).copied() else { continue };
            let is_result = offset >= self.results_at;
            let size = width(self.register_type(*register));
            if size == 0 || size > 8 {
                return Err(SyntaxError::new(self.line, format!("parameter `{name}` of this type is not executed")));
            }
            if is_result == at_start {
                continue;
            }
            let shape = Shape { space: LOCAL, size, count: 1, wide: false };
            let run = if at_start { load_op(shape) } else { store_op(shape) };
            let (d, a) = (self.register(*register), self.special(special));
            self.ops.push(Op { d, a, imm: u64::from(offset), ..Op::new(run, self.line) });
        }
        Ok(())
    }

    fn resolve(&mut self, starts: &[usize]) {
        for (at, label) in std::mem::take(&mut self.fixups) {
            let to = starts.get(label as usize).copied().unwrap_or(0);
            let distance = i64::try_from(to).unwrap_or(0) - i64::try_from(at).unwrap_or(0);
            self.ops[at].imm = distance.cast_unsigned();
            if distance <= 0 {
                self.ops[at].run = backward(&self.ops[at]);
            }
        }
        for (table, labels) in std::mem::take(&mut self.table_fixups) {
            let to = |label: &u32| starts.get(*label as usize).and_then(|&at| u32::try_from(at).ok()).unwrap_or(0);
            self.tables[table] = labels.iter().map(to).collect();
        }
    }

    fn instruction(&mut self, instruction: &Instruction<'a>) -> Result<()> {
        (self.line, self.scope) = (instruction.line, instruction.scope);
        self.temporaries.iter_mut().for_each(|(_, _, used)| *used = false);
        let start = self.ops.len();
        if self.guarded_jump(instruction)? {
            return Ok(());
        }
        let result = self.family(instruction);
        if let Err(problem) = result {
            if let Some(error) = problem.at(instruction.line) {
                return Err(SyntaxError::new(error.line, format!("{} in `{}`", error.what, instruction.text)));
            }
            self.ops.truncate(start);
            self.fixups.retain(|(at, _)| *at < start);
            let number = u64::try_from(self.texts.len()).unwrap_or(0);
            self.texts.push(format!("unknown instruction `{}`", instruction.text));
            self.ops.push(Op { imm: number, ..Op::new(control::unknown, self.line) });
        }
        if let Some((register, negated)) = instruction.guard {
            self.guard(start, register, negated, kind_of(instruction));
        }
        Ok(())
    }

    /// `@p bra` is one operation.
    fn guarded_jump(&mut self, instruction: &Instruction<'a>) -> Result<bool> {
        let (Some((register, negated)), "bra") = (instruction.guard, instruction.opcode()) else {
            return Ok(false);
        };
        let Some(Operand::Name(label, _)) = instruction.operands.first() else {
            return Err(SyntaxError::new(instruction.line, "`bra` without a label"));
        };
        let slot = self.register(register);
        let target = self.label(label).map_err(|what| SyntaxError::new(instruction.line, what))?;
        self.fixups.push((self.ops.len(), target));
        self.emit(control::branch_op(negated, false), 0, slot, 0, u32::from(negated));
        Ok(true)
    }

    fn label(&self, name: &str) -> std::result::Result<u32, String> {
        match self.body.lookup(self.scope, name) {
            Some(Named::Label(at)) => Ok(*at),
            _ => Err(format!("label `{name}` is not declared")),
        }
    }

    pub(super) fn jump(&mut self, name: &str) -> Step {
        let target = self.label(name).map_err(Problem::Bad)?;
        self.fixups.push((self.ops.len(), target));
        self.emit(control::jump_op(false), 0, 0, 0, u32::MAX);
        Ok(())
    }

    /// `brx.idx index, table`.
    pub(super) fn jump_indexed(&mut self, index: u32, table: &str) -> Step {
        let Some(Named::Targets(names)) = self.body.lookup(self.scope, table) else {
            return super::bad(format!("branch table `{table}` is not declared"));
        };
        let labels = names.iter().map(|name| self.label(name)).collect::<std::result::Result<Vec<_>, _>>();
        let number = self.tables.len();
        self.tables.push(Box::default());
        self.table_fixups.push((number, labels.map_err(Problem::Bad)?));
        let imm = u64::try_from(number).unwrap_or(0);
        self.ops.push(Op { a: index, imm, ..Op::new(control::branch_indexed, self.line) });
        Ok(())
    }

    /// Puts the guard on the operations from `start` on.
    fn guard(&mut self, start: usize, register: Reg, negated: bool, kind: Kind) {
        let slot = self.register(register);
        let guarded: Vec<Op> = self.ops.drain(start..).collect();
        if kind == Kind::Simple && guarded.len() <= 2 {
            for op in guarded {
                self.emit(control::guard_op(negated), 0, slot, 0, 0);
                self.ops.push(op);
            }
            return;
        }
        // `@p op` as: branch around unless p; op; join.
        let past = i64::try_from(guarded.len() + 2).unwrap_or(0);
        let around = Op { a: slot, imm: past.cast_unsigned(), ..Op::new(control::branch_op(!negated, false), self.line) };
        self.ops.push(around);
        for (at, _) in &mut self.fixups {
            if *at >= start {
                *at += 1;
            }
        }
        self.ops.extend(guarded);
        self.emit(control::join, 0, 0, 0, 0);
    }

    pub(super) fn note_call(&mut self) {
        self.has_calls = true;
    }

    /// The carry flag's slot.
    pub(super) fn carry_flag(&mut self) -> u32 {
        match self.carry {
            Some(slot) => slot,
            None => {
                let slot = self.new_slot(0);
                self.carry = Some(slot);
                slot
            }
        }
    }

    /// Sends the instruction to its family's room.
    fn family(&mut self, i: &Instruction<'a>) -> Step {
        match i.opcode() {
            "add" | "sub" | "mul" | "mad" | "fma" | "addc" | "subc" | "madc" | "div" | "rem" | "abs" | "neg" | "min"
            | "max" | "sad" | "mul24" | "mad24" | "dp4a" | "dp2a" => self.arithmetic(i),
            "rcp" | "sqrt" | "rsqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh" | "copysign" => self.float_function(i),
            "and" | "or" | "xor" | "not" | "cnot" | "lop3" | "shl" | "shr" | "shf" | "popc" | "clz" | "bfind"
            | "brev" | "bfe" | "bfi" | "prmt" | "bmsk" | "fns" | "szext" => self.bits(i),
            "setp" | "set" | "selp" | "slct" | "testp" => self.compare(i),
            "cvt" => self.convert(i),
            "mov" | "cvta" | "isspacep" | "mapa" | "getctarank" | "createpolicy" => self.moves(i),
            "cp" => self.copy_async(i),
            "mbarrier" => self.mbarrier(i),
            "wmma" | "mma" | "ldmatrix" | "stmatrix" | "movmatrix" => self.matrix(i),
            "st" if i.has("async") => self.store_async(i),
            "ld" | "ldu" | "st" | "prefetch" | "prefetchu" | "discard" | "applypriority" => self.memory(i),
            "atom" | "red" => self.atomic(i),
            "call" => self.call(i),
            "shfl" | "vote" | "match" | "redux" | "activemask" | "elect" => self.warp(i),
            "tex" | "tld4" | "txq" | "suq" | "suld" | "sust" | "sured" => self.texture(i),
            _ => self.control(i),
        }
    }
}

fn kind_of(instruction: &Instruction<'_>) -> Kind {
    // Several operations, the later of which must see what the earlier wrote.
    let several = matches!(instruction.opcode(), "setp" | "lop3" | "shfl") && matches!(instruction.operands.first(), Some(Operand::Pair(..)));
    match instruction.opcode() {
        "bra" | "brx" | "call" | "ret" | "exit" | "bar" | "barrier" | "trap" | "shfl" | "vote" | "match" | "redux"
        | "elect" | "wmma" | "mma" | "ldmatrix" | "stmatrix" | "movmatrix" => Kind::Control,
        _ if several => Kind::Control,
        _ => Kind::Simple,
    }
}

/// The backward form of a branch that was emitted as a forward one.
fn backward(op: &Op) -> Run {
    if op.c == u32::MAX { control::jump_op(true) } else { control::branch_op(op.c == 1, true) }
}

/// Types among an instruction's modifiers, in order.
pub(super) fn types(instruction: &Instruction<'_>) -> Vec<Type> {
    instruction.modifiers().filter_map(Type::from_name).collect()
}
