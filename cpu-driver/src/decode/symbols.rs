//! What the names of a module stand for: addresses of globals, places of shared variables,
//! numbers of functions; and the layout rule that parameters and variables share.

use crate::exec::function::ParamLayout;
use crate::ptx::ast::{Body, Module, Operand, Variable};
use crate::ptx::types::Space;
use std::collections::{HashMap, HashSet};

/// Places each variable at the next multiple of its alignment; returns the places and the end.
pub fn layout(variables: &[Variable<'_>], mut at: u32) -> (Vec<ParamLayout>, u32) {
    let mut places = Vec::with_capacity(variables.len());
    for variable in variables {
        let size = u32::try_from(variable.size).unwrap_or(u32::MAX);
        at = at.checked_next_multiple_of(variable.align.max(1)).unwrap_or(u32::MAX);
        places.push(ParamLayout { offset: at, size });
        at = at.saturating_add(size);
    }
    (places, at)
}

/// A module's names.
pub struct Symbols<'a> {
    /// Device addresses of `.global` and `.const` variables.
    pub addresses: HashMap<&'a str, u64>,
    pub functions: HashMap<&'a str, u32>,
    /// Module-scope `.shared` variables.
    pub shared: HashMap<&'a str, Variable<'a>>,
    /// Those of them that device functions use: they lie at the same place in every kernel.
    pub common: HashMap<&'a str, u32>,
    pub common_size: u32,
}

impl<'a> Symbols<'a> {
    /// Names of `module`, whose globals were placed at `addresses`.
    pub fn new(module: &Module<'a>, addresses: HashMap<&'a str, u64>) -> Self {
        let mut functions = HashMap::new();
        for (number, function) in module.functions.iter().enumerate() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            // A definition takes the name over from a declaration, whichever comes first.
            if function.body.is_some() || !functions.contains_key(function.name) {
                functions.insert(function.name, number);
            }
        }
        let is_shared = |variable: &&Variable<'a>| variable.space == Space::Shared;
        let shared: HashMap<_, _> =
            module.variables.iter().filter(is_shared).map(|variable| (variable.name, variable.clone())).collect();
        let mut used = HashSet::new();
        for function in module.functions.iter().filter(|function| !function.is_entry) {
            if let Some(body) = &function.body {
                names(body, &mut used);
            }
        }
        let (mut common, mut at) = (HashMap::new(), 0u32);
        for variable in module.variables.iter().filter(is_shared) {
            if used.contains(variable.name) && variable.size > 0 {
                let (places, end) = layout(std::slice::from_ref(variable), at);
                common.insert(variable.name, places[0].offset);
                at = end;
            }
        }
        Self { addresses, functions, shared, common, common_size: at }
    }
}

/// Names that a body's operands mention.
fn names<'a>(body: &Body<'a>, into: &mut HashSet<&'a str>) {
    fn visit<'a>(operand: &Operand<'a>, into: &mut HashSet<&'a str>) {
        match operand {
            Operand::Name(name, _) => {
                into.insert(name);
            }
            Operand::Address(base, _) => visit(base, into),
            Operand::Vector(all) | Operand::List(all) => all.iter().for_each(|operand| visit(operand, into)),
            _ => {}
        }
    }
    for instruction in &body.instructions {
        instruction.operands.iter().for_each(|operand| visit(operand, into));
    }
}
