//! Third room of the PTX reader: the statements of a function. Registers are resolved here, because
//! PTX declares them before use; labels, variables and functions stay names until `decode`.

use super::Result;
use super::ast::{Body, Instruction, Named, Operand, Reg, Scope, Variable};
use super::lexer::Token;
use super::parser::Parser;
use super::types::{Space, Type};
use std::collections::HashMap;

/// Register numbers are slot indices in a `u32`; this bound keeps a frame below 4 GiB.
const REGISTERS_MAX: usize = 1 << 20;

/// Registers declared in one scope: single names, and `%r<N>` families by prefix.
#[derive(Default)]
struct Registers<'a> {
    names: HashMap<&'a str, Reg>,
    families: HashMap<&'a str, (u32, u32)>,
}

/// A body being read.
struct Reader<'p, 'a> {
    parser: &'p mut Parser<'a>,
    body: Body<'a>,
    /// Open scopes, innermost last.
    open: Vec<(Scope, Registers<'a>)>,
}

impl<'a> Parser<'a> {
    /// `{ statements }` of a function with these parameters and results.
    pub(super) fn body(&mut self, header: &[Variable<'a>]) -> Result<Body<'a>> {
        self.expect('{')?;
        let mut body = Body::default();
        body.scopes.push(Scope(0));
        let mut registers = Registers::default();
        for variable in header.iter().filter(|variable| variable.space == Space::Reg) {
            let register = Reg(index(body.registers.len()));
            body.registers.push(variable.ty);
            body.in_registers.push((variable.name, register));
            registers.names.insert(variable.name, register);
        }
        let mut reader = Reader { parser: self, body, open: vec![(Scope(0), registers)] };
        while !reader.open.is_empty() {
            reader.statement()?;
        }
        Ok(reader.body)
    }
}

fn index(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl<'a> Reader<'_, 'a> {
    fn scope(&self) -> Scope {
        self.open.last().map_or(Scope(0), |(scope, _)| *scope)
    }

    fn statement(&mut self) -> Result<()> {
        match self.parser.token {
            Token::Punct('{') => {
                self.parser.take()?;
                let scope = Scope(index(self.body.scopes.len()));
                self.body.scopes.push(self.scope());
                self.open.push((scope, Registers::default()));
            }
            Token::Punct('}') => {
                self.parser.take()?;
                self.open.pop();
            }
            Token::Punct(';') => {
                self.parser.take()?;
            }
            Token::Punct('@') => self.guarded()?,
            Token::Word(word) => self.label_or_instruction(word)?,
            Token::Dot("reg") => self.registers()?,
            Token::Dot("local" | "shared" | "param" | "global" | "const") => {
                for variable in self.parser.variables()? {
                    let number = index(self.body.variables.len());
                    let scope = self.scope();
                    self.body.declare(scope, variable.name, Named::Variable(number));
                    self.body.variables.push(variable);
                }
            }
            Token::Dot(_) => self.parser.skip_directive()?,
            other => return self.parser.error(format!("a statement expected, found {other:?}")),
        }
        Ok(())
    }

    fn registers(&mut self) -> Result<()> {
        self.parser.take()?;
        let ty = match self.parser.take()? {
            Token::Dot(name) => Type::from_name(name),
            _ => None,
        };
        let Some(ty) = ty.filter(|ty| *ty != Type::B128) else {
            return self.parser.error("a register type that is not executed");
        };
        loop {
            let name = self.parser.word()?;
            let base = index(self.body.registers.len());
            let mut count = 1;
            if self.parser.take_if('<')? {
                count = usize::try_from(self.parser.int()?).unwrap_or(usize::MAX);
                self.parser.expect('>')?;
                if let Some((_, registers)) = self.open.last_mut() {
                    registers.families.insert(name, (base, index(count)));
                }
            } else if let Some((_, registers)) = self.open.last_mut() {
                registers.names.insert(name, Reg(base));
            }
            if count > REGISTERS_MAX - self.body.registers.len().min(REGISTERS_MAX) {
                return self.parser.error(format!("more than {REGISTERS_MAX} registers"));
            }
            self.body.registers.resize(self.body.registers.len() + count, ty);
            if !self.parser.take_if(',')? {
                return self.parser.expect(';');
            }
        }
    }

    fn find_register(&self, name: &str) -> Option<Reg> {
        let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = name.get(prefix.len()..).unwrap_or("");
        for (_, registers) in self.open.iter().rev() {
            if let Some(register) = registers.names.get(name) {
                return Some(*register);
            }
            let family = registers.families.get(prefix);
            if let (Some((base, count)), Ok(number)) = (family, digits.parse::<u32>())
                && number < *count
            {
                return Some(Reg(base + number));
            }
        }
        None
    }

    fn guarded(&mut self) -> Result<()> {
        self.parser.take()?;
        let negated = self.parser.take_if('!')?;
        let name = self.parser.word()?;
        let Some(register) = self.find_register(name) else {
            return self.parser.error(format!("predicate `{name}` is not declared"));
        };
        if self.body.registers.get(register.0 as usize) != Some(&Type::Pred) {
            return self.parser.error(format!("`{name}` guards an instruction but is no predicate"));
        }
        let line = self.parser.line;
        let text = self.parser.word()?;
        self.instruction(text, line, Some((register, negated)))
    }

    fn label_or_instruction(&mut self, word: &'a str) -> Result<()> {
        let line = self.parser.line;
        self.parser.take()?;
        if !self.parser.take_if(':')? {
            return self.instruction(word, line, None);
        }
        let named = match self.parser.token {
            Token::Dot("branchtargets") => {
                self.parser.take()?;
                let mut targets = vec![self.parser.word()?];
                while self.parser.take_if(',')? {
                    targets.push(self.parser.word()?);
                }
                self.parser.expect(';')?;
                Named::Targets(targets)
            }
            Token::Dot("callprototype") => {
                self.parser.take()?;
                let (returns, params) = self.parser.prototype()?;
                Named::Prototype(returns, params)
            }
            _ => Named::Label(index(self.body.instructions.len())),
        };
        let scope = self.scope();
        if !self.body.declare(scope, word, named) {
            return self.parser.error(format!("label `{word}` is defined twice"));
        }
        Ok(())
    }

    fn instruction(&mut self, text: &'a str, line: u32, guard: Option<(Reg, bool)>) -> Result<()> {
        let mut operands = Vec::new();
        while !self.parser.take_if(';')? {
            operands.push(self.operand()?);
            // `call (ret), f, (args)` and `tex` forms separate operands by commas like all others.
            if !self.parser.take_if(',')? && !self.parser.at(';') {
                return self.parser.error(format!("`,` or `;` expected after an operand of `{text}`"));
            }
        }
        self.body.instructions.push(Instruction { line, scope: self.scope(), guard, text, operands });
        Ok(())
    }

    fn operand(&mut self) -> Result<Operand<'a>> {
        let first = match self.parser.token {
            Token::Punct('{') => Operand::Vector(self.list('{', '}')?),
            Token::Punct('(') => Operand::List(self.list('(', ')')?),
            Token::Punct('[') => self.address()?,
            Token::Punct('!') => {
                self.parser.take()?;
                Operand::Not(Box::new(self.operand()?))
            }
            Token::Punct('-') => self.negative()?,
            Token::Word(word) => {
                self.parser.take()?;
                self.named_operand(word)?
            }
            _ => match self.parser.take()? {
                Token::Int(value) => Operand::Int(value),
                Token::F32(bits) => Operand::F32(bits),
                Token::F64(bits) => Operand::F64(bits),
                other => return self.parser.error(format!("an operand expected, found {other:?}")),
            },
        };
        if self.parser.take_if('|')? {
            let second = self.operand()?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    fn negative(&mut self) -> Result<Operand<'a>> {
        self.parser.take()?;
        Ok(match self.parser.take()? {
            Token::Int(value) => Operand::Int(value.wrapping_neg()),
            Token::F32(bits) => Operand::F32(bits ^ (1 << 31)),
            Token::F64(bits) => Operand::F64(bits ^ (1 << 63)),
            other => return self.parser.error(format!("a number expected after `-`, found {other:?}")),
        })
    }

    fn list(&mut self, open: char, close: char) -> Result<Vec<Operand<'a>>> {
        self.parser.expect(open)?;
        let mut operands = Vec::new();
        while !self.parser.take_if(close)? {
            operands.push(self.operand()?);
            if !self.parser.take_if(',')? && !self.parser.at(close) {
                return self.parser.error(format!("`,` or `{close}` expected"));
            }
        }
        Ok(operands)
    }

    /// `[base]`, `[base+4]`, `[base-4]`, `[16]`, and `[name, {coordinates}]` of textures.
    fn address(&mut self) -> Result<Operand<'a>> {
        self.parser.expect('[')?;
        let base = self.operand()?;
        let offset = self.offset()?;
        if self.parser.take_if(',')? {
            let coordinates = self.operand()?;
            self.parser.expect(']')?;
            return Ok(Operand::Address(Box::new(Operand::List(vec![base, coordinates])), 0));
        }
        self.parser.expect(']')?;
        // A name takes its own offset, so `[name+4]` has it there already.
        if let Operand::Name(name, inner) = base {
            return Ok(Operand::Address(Box::new(Operand::Name(name, 0)), inner + offset));
        }
        Ok(Operand::Address(Box::new(base), offset))
    }

    /// `+4`, `+-4`, `-4`, or nothing.
    fn offset(&mut self) -> Result<i64> {
        if self.parser.take_if('+')? || self.parser.at('-') {
            return Ok(self.parser.int()?.cast_signed());
        }
        Ok(0)
    }

    fn named_operand(&mut self, word: &'a str) -> Result<Operand<'a>> {
        if let Some(register) = self.find_register(word) {
            return Ok(Operand::Register(register));
        }
        if word == "_" {
            return Ok(Operand::Sink);
        }
        if word == "WARP_SZ" {
            return Ok(Operand::Int(32));
        }
        if word.starts_with('%') {
            if is_special(word) {
                return Ok(Operand::Special(word));
            }
            return self.parser.error(format!("register `{word}` is not declared"));
        }
        if self.parser.take_if('[')? {
            let number = self.parser.int()?;
            self.parser.expect(']')?;
            return self.element(word, number);
        }
        let offset = self.offset()?;
        Ok(Operand::Name(word, offset))
    }

    /// `name[number]`, the place of an element of one of the body's own variables.
    fn element(&mut self, name: &'a str, number: u64) -> Result<Operand<'a>> {
        let Some(Named::Variable(at)) = self.body.lookup(self.scope(), name) else {
            return self.parser.error(format!("`{name}[{number}]` of a variable of the module is not executed"));
        };
        let size = self.body.variables.get(*at as usize).map_or(1, |variable| u64::from(variable.ty.size()));
        Ok(Operand::Name(name, number.wrapping_mul(size).cast_signed()))
    }
}

fn is_special(word: &str) -> bool {
    const NAMES: [&str; 37] = [
        "%tid", "%ntid", "%laneid", "%warpid", "%nwarpid", "%ctaid", "%nctaid", "%smid", "%nsmid", "%gridid",
        "%is_explicit_cluster", "%clusterid", "%nclusterid", "%cluster_ctaid", "%cluster_nctaid", "%cluster_ctarank",
        "%cluster_nctarank", "%lanemask_eq", "%lanemask_le", "%lanemask_lt", "%lanemask_ge", "%lanemask_gt", "%clock",
        "%clock_hi", "%clock64", "%globaltimer", "%globaltimer_lo", "%globaltimer_hi", "%total_smem_size",
        "%aggr_smem_size", "%dynamic_smem_size", "%current_graph_exec", "%reserved_smem_offset_begin",
        "%reserved_smem_offset_end", "%reserved_smem_offset_cap", "%pm0", "%envreg1",
    ];
    let name = word.split('.').next().unwrap_or(word);
    NAMES.contains(&name) || name.starts_with("%envreg") || name.starts_with("%pm")
}
