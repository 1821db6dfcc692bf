//! What the names of a module stand for: addresses of globals, places of shared variables,
//! numbers of functions; and the layout rule that parameters and variables share.

use super::link::Exports;
use crate::exec::function::ParamLayout;
use crate::ptx::ast::{Body, Function, Linkage, Module, Operand, Variable};
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
    /// Numbers of functions among those of all modules linked together.
    pub functions: HashMap<&'a str, u32>,
    /// Where in this module each function is declared, which says how it is called.
    pub declared: HashMap<&'a str, usize>,
    /// Functions that no module defines.
    pub undefined: HashSet<&'a str>,
    /// Module-scope `.shared` variables.
    pub shared: HashMap<&'a str, Variable<'a>>,
    /// Those of them that device functions or several modules use: they lie at the same place in
    /// every kernel.
    pub common: HashMap<&'a str, u32>,
    /// Shared variables inside device functions, by function and number in its body: they too lie at
    /// the same place in every kernel.
    pub in_bodies: HashMap<(&'a str, usize), u32>,
    pub common_size: u32,
}

impl<'a> Symbols<'a> {
    /// Names of `module`, whose globals were placed at `addresses` and whose first function has the
    /// number `first`.
    pub fn new(module: &Module<'a>, first: u32, exports: &Exports<'a>, addresses: HashMap<&'a str, u64>) -> Self {
        let (mut functions, mut declared) = (HashMap::new(), HashMap::new());
        for (index, function) in module.functions.iter().enumerate() {
            // A definition takes the name over from a declaration, whichever comes first.
            if function.body.is_some() || !declared.contains_key(function.name) {
                declared.insert(function.name, index);
                functions.insert(function.name, first.saturating_add(u32::try_from(index).unwrap_or(u32::MAX)));
            }
        }
        let aliased: HashSet<&str> = module.aliases.iter().map(|(name, _)| *name).collect();
        for (name, target) in &module.aliases {
            if let Some(number) = functions.get(target).copied() {
                functions.insert(name, number);
            }
        }
        let mut undefined = HashSet::new();
        for (name, index) in &declared {
            let own = module.functions.get(*index).is_some_and(|function| is_own(function));
            match exports.functions.get(name) {
                _ if own || aliased.contains(name) => {}
                Some(export) => {
                    functions.insert(name, export.number);
                }
                None => {
                    undefined.insert(*name);
                }
            }
        }
        let shared = shared_variables(module).map(|variable| (variable.name, variable.clone())).collect();
        Self { addresses, functions, declared, undefined, shared, common: HashMap::new(), in_bodies: HashMap::new(), common_size: 0 }
    }

    /// Names of undefined functions that `module` uses.
    pub fn missing(&self, module: &Module<'a>) -> Vec<&'a str> {
        let mut used = HashSet::new();
        module.functions.iter().filter_map(|function| function.body.as_ref()).for_each(|body| names(body, &mut used));
        self.undefined.iter().copied().filter(|name| used.contains(name)).collect()
    }
}

/// Whether a module means its own definition of a function, not a stronger one elsewhere.
fn is_own(function: &Function<'_>) -> bool {
    function.body.is_some() && function.linkage != Linkage::Weak
}

fn shared_variables<'m, 'a>(module: &'m Module<'a>) -> impl Iterator<Item = &'m Variable<'a>> {
    module.variables.iter().filter(|variable| variable.space == Space::Shared)
}

/// Places the shared variables that must lie at the same place in every kernel.
pub fn place_common<'a>(modules: &[Module<'a>], symbols: &mut [Symbols<'a>]) {
    let (mut exported, mut at) = (HashMap::new(), 0u32);
    let mut place = |variable: &Variable<'a>| {
        let (places, end) = layout(std::slice::from_ref(variable), at);
        at = end;
        places.first().map_or(0, |place| place.offset)
    };
    for (module, symbols) in modules.iter().zip(&mut *symbols) {
        let mut used = HashSet::new();
        for function in module.functions.iter().filter(|function| !function.is_entry) {
            let Some(body) = &function.body else { continue };
            names(body, &mut used);
            let inside = |(_, variable): &(usize, &Variable<'a>)| variable.space == Space::Shared && variable.size > 0;
            for (number, variable) in body.variables.iter().enumerate().filter(inside) {
                symbols.in_bodies.insert((function.name, number), place(variable));
            }
        }
        for variable in shared_variables(module).filter(|variable| variable.size > 0) {
            let is_public = modules.len() > 1 && variable.linkage != Linkage::Private;
            if !is_public && !used.contains(variable.name) {
                continue;
            }
            let known = exported.get(variable.name).copied().filter(|_| is_public);
            let offset = known.unwrap_or_else(|| place(variable));
            if is_public {
                exported.insert(variable.name, offset);
            }
            symbols.common.insert(variable.name, offset);
        }
    }
    symbols.iter_mut().for_each(|symbols| symbols.common_size = at);
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
