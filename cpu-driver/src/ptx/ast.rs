//! The syntax tree of a PTX module. It borrows from the text and lives only until `decode` has
//! turned it into operations.

use super::types::{Space, Type};
use std::collections::HashMap;

/// Index of a register in its function's `registers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reg(pub u32);

/// Index of a name scope in its function's body; scope 0 is the function itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scope(pub u32);

#[derive(Debug, Default)]
pub struct Module<'a> {
    /// `.version` times ten: 8.3 is 83.
    pub version: u32,
    /// `.target sm_NN`: NN.
    pub target: u32,
    pub variables: Vec<Variable<'a>>,
    pub functions: Vec<Function<'a>>,
    /// What a JIT option told a link about all kernels.
    pub max_registers: Option<u32>,
    /// `.alias`: further names of functions.
    pub aliases: Vec<(&'a str, &'a str)>,
}

/// Who else sees a symbol of a module (PTX ISA, linking directives).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Linkage {
    /// Its own module alone.
    #[default]
    Private,
    /// Every module that declares it extern.
    Visible,
    /// As visible; gives way to a visible one.
    Weak,
    /// As visible; several become one, as large as the largest.
    Common,
    /// Defined in another module.
    Extern,
}

/// A variable or a parameter.
#[derive(Debug, Clone)]
pub struct Variable<'a> {
    pub name: &'a str,
    pub line: u32,
    pub space: Space,
    pub ty: Type,
    /// In bytes; at least the element's own size.
    pub align: u32,
    /// In bytes; 0 for an array without a size (`.extern .shared`).
    pub size: u64,
    pub linkage: Linkage,
    /// `.attribute(.managed)`: the program reaches it too.
    pub is_managed: bool,
    pub init: Vec<Init<'a>>,
}

/// One element of an initialiser.
#[derive(Debug, Clone)]
pub enum Init<'a> {
    Bits(u64),
    /// Address of a variable or function plus an offset.
    Address(&'a str, i64),
}

#[derive(Debug)]
pub struct Function<'a> {
    pub name: &'a str,
    pub line: u32,
    pub linkage: Linkage,
    pub is_entry: bool,
    pub returns: Vec<Variable<'a>>,
    pub params: Vec<Variable<'a>>,
    /// `.maxntid` or `.reqntid`, as the product of its dimensions.
    pub max_threads: Option<u32>,
    /// `.reqntid` as given.
    pub required_block: Option<[u32; 3]>,
    pub max_registers: Option<u32>,
    /// None for a declaration.
    pub body: Option<Body<'a>>,
}

#[derive(Debug, Default)]
pub struct Body<'a> {
    pub registers: Vec<Type>,
    /// Parameters and results that are registers, by their names.
    pub in_registers: Vec<(&'a str, Reg)>,
    pub variables: Vec<Variable<'a>>,
    pub instructions: Vec<Instruction<'a>>,
    /// Parent of each scope; the function's own scope is its own parent.
    pub scopes: Vec<Scope>,
    /// By name, then by the scope that declares it.
    pub names: HashMap<&'a str, Vec<(Scope, Named<'a>)>>,
}

/// What a name inside a function body stands for, registers excepted.
#[derive(Debug, Clone)]
pub enum Named<'a> {
    /// Index of the instruction that the label precedes.
    Label(u32),
    /// Index in `Body::variables`.
    Variable(u32),
    /// `.branchtargets`.
    Targets(Vec<&'a str>),
    /// `.callprototype`: returns and parameters.
    Prototype(Vec<Variable<'a>>, Vec<Variable<'a>>),
}

impl<'a> Body<'a> {
    /// Looks `name` up from `scope` outwards.
    pub fn lookup(&self, mut scope: Scope, name: &str) -> Option<&Named<'a>> {
        let declared = self.names.get(name)?;
        loop {
            if let Some((_, named)) = declared.iter().find(|(at, _)| *at == scope) {
                return Some(named);
            }
            let parent = *self.scopes.get(scope.0 as usize)?;
            if parent == scope {
                return None;
            }
            scope = parent;
        }
    }

    /// Declares `name` in `scope`; false when it is declared there already.
    pub fn declare(&mut self, scope: Scope, name: &'a str, named: Named<'a>) -> bool {
        let declared = self.names.entry(name).or_default();
        let is_new = declared.iter().all(|(at, _)| *at != scope);
        declared.push((scope, named));
        is_new
    }
}

#[derive(Debug)]
pub struct Instruction<'a> {
    pub line: u32,
    pub scope: Scope,
    /// Predicate register and whether it is negated.
    pub guard: Option<(Reg, bool)>,
    /// Opcode with its modifiers, as written: `add.rn.f32`.
    pub text: &'a str,
    pub operands: Vec<Operand<'a>>,
}

impl<'a> Instruction<'a> {
    pub fn opcode(&self) -> &'a str {
        self.text.split('.').next().unwrap_or("")
    }

    pub fn modifiers(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.text.split('.').skip(1)
    }

    pub fn has(&self, modifier: &str) -> bool {
        self.modifiers().any(|m| m == modifier)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Operand<'a> {
    Register(Reg),
    /// A special register such as `%tid.x`.
    Special(&'a str),
    Int(u64),
    F32(u32),
    F64(u64),
    /// A variable's address, a label or a function, plus an offset.
    Name(&'a str, i64),
    /// `[base + offset]`.
    Address(Box<Operand<'a>>, i64),
    Vector(Vec<Operand<'a>>),
    /// `!%p`.
    Not(Box<Operand<'a>>),
    /// `%p|%q` and `%r|%p`.
    Pair(Box<Operand<'a>>, Box<Operand<'a>>),
    /// `(a, b)` of a call.
    List(Vec<Operand<'a>>),
    /// `_`.
    Sink,
}
