//! Linking: what the modules of one text export to each other. A visible symbol beats weak ones; of
//! common variables the largest stays; a private symbol is its own module's.

use crate::ptx::ast::{Linkage, Module};
use crate::ptx::types::Space;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// A symbol that other modules may use.
#[derive(Debug, Clone, Copy)]
pub struct Export {
    /// A function's number among those of all modules; a variable's module.
    pub number: u32,
    /// A variable's index in its module.
    pub index: usize,
    linkage: Linkage,
    size: u64,
}

/// The symbols of all modules by name.
#[derive(Default)]
pub struct Exports<'a> {
    pub functions: HashMap<&'a str, Export>,
    pub variables: HashMap<&'a str, Export>,
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Number of each module's first function.
pub fn first_functions(modules: &[Module<'_>]) -> Vec<u32> {
    let mut next = 0u32;
    let first = |module: &Module<'_>| {
        let first = next;
        next = next.saturating_add(number(module.functions.len()));
        first
    };
    modules.iter().map(first).collect()
}

impl<'a> Exports<'a> {
    /// What `modules` export.
    ///
    /// # Errors
    /// A symbol that two modules define.
    pub fn new(modules: &[Module<'a>]) -> Result<Self, String> {
        let mut all = Self::default();
        for ((place, module), first) in modules.iter().enumerate().zip(first_functions(modules)) {
            for (index, function) in module.functions.iter().enumerate().filter(|(_, f)| f.body.is_some()) {
                let (number, linkage) = (first + number(index), function.linkage);
                add(&mut all.functions, function.name, Export { number, index, linkage, size: 0 })?;
            }
            for (name, target) in &module.aliases {
                let aliased = module.functions.iter().position(|f| f.name == *target && f.body.is_some());
                let linkage = module.functions.iter().find(|f| f.name == *name).map(|f| f.linkage);
                if let (Some(index), Some(linkage)) = (aliased, linkage) {
                    let number = first + number(index);
                    add(&mut all.functions, name, Export { number, index, linkage, size: 0 })?;
                }
            }
            for (index, variable) in module.variables.iter().enumerate().filter(|(_, v)| v.space != Space::Shared) {
                let (number, linkage, size) = (number(place), variable.linkage, variable.size);
                add(&mut all.variables, variable.name, Export { number, index, linkage, size })?;
            }
        }
        Ok(all)
    }
}

fn add<'a>(to: &mut HashMap<&'a str, Export>, name: &'a str, new: Export) -> Result<(), String> {
    if matches!(new.linkage, Linkage::Private | Linkage::Extern) {
        return Ok(());
    }
    match to.entry(name) {
        Entry::Vacant(entry) => {
            entry.insert(new);
        }
        Entry::Occupied(mut entry) => {
            let old = *entry.get();
            match (old.linkage, new.linkage) {
                (Linkage::Visible, Linkage::Visible) => return Err(format!("multiple definition of `{name}`")),
                (Linkage::Weak | Linkage::Common, Linkage::Visible) => _ = entry.insert(new),
                (Linkage::Common, Linkage::Common) if new.size > old.size => _ = entry.insert(new),
                _ => {}
            }
        }
    }
    Ok(())
}
