//! A module: functions decoded from PTX and the device memory of its variables, in one context.

pub mod image;
pub mod managed;
pub mod object;

use crate::decode;
use crate::decode::link::{Export, Exports, first_functions};
use crate::exec::function::{Builtin, Function};
use crate::context::Context;
use crate::device::Device;
use crate::memory::{FUNCTION_BASE, Sort, arena};
use crate::ptx::ast::{self, Init, Linkage, Variable};
use crate::ptx::types::Space;
use crate::ptx::{self, SyntaxError};
use std::collections::{HashMap, HashSet};
use managed::Managed;
use std::sync::Arc;

/// Why an image became no module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    #[error("the image is neither PTX nor a fat binary")]
    Invalid,
    /// With what it holds instead.
    #[error("the image holds no PTX that this device could run: {0}")]
    NoPtx(String),
    #[error("{0}")]
    Ptx(#[from] SyntaxError),
    #[error("{0}")]
    Link(String),
    #[error("no memory for the module's variables")]
    OutOfMemory,
}

/// A `.global` or `.const` variable in device memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Global {
    pub address: u64,
    pub size: u64,
}

#[derive(Debug)]
pub struct Module {
    pub functions: Arc<[Function]>,
    pub globals: HashMap<String, Global>,
    /// Addresses of all variables, managed ones excepted.
    placed: Vec<u64>,
    managed: Arc<Managed>,
    /// Bytes of `.const` variables.
    pub const_size: u64,
    pub version: u32,
    pub target: u32,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Function({}, {} operations)", self.name, self.ops.len())
    }
}

impl Module {
    /// Parses, links and decodes the modules of `text`, and places their variables in a context's memory;
    /// managed ones are those that other modules of the text have.
    ///
    /// # Errors
    /// What is wrong with the text, or that memory is spent.
    pub fn load(text: &str, context: &Context, managed: &Arc<Managed>) -> Result<Self, ImageError> {
        let trees = read(text)?;
        let Linked { exports, mut symbols } = link(&trees)?;
        let (version, target) = trees.first().map_or((0, 0), |tree| (tree.version, tree.target));
        let mut module = Self {
            functions: Arc::default(),
            globals: HashMap::new(),
            placed: Vec::new(),
            managed: Arc::clone(managed),
            const_size: 0,
            version,
            target,
        };
        module.place_globals(&trees, &exports, &mut symbols, context)?;
        for (place, tree) in trees.iter().enumerate() {
            for (index, variable) in tree.variables.iter().enumerate() {
                let has_values = variable.is_managed && managed.is_ready();
                if let Some(at) = symbols[place].addresses.get(variable.name)
                    && is_placed(&exports, variable, place, index)
                    && !has_values
                {
                    initialise(variable, *at, &symbols[place])?;
                }
            }
        }
        let mut functions = Vec::new();
        for (tree, symbols) in trees.iter().zip(&symbols) {
            functions.extend(decode::functions(tree, symbols)?);
        }
        module.functions = functions.into();
        managed.set_ready();
        Ok(module)
    }

    /// Places the managed variables of a text that no context has loaded yet, as those of `device`: by their
    /// names, address and size of each.
    ///
    /// # Errors
    /// What is wrong with the text, or that memory is spent.
    pub fn place_managed(text: &str, device: Device, managed: &Managed) -> Result<HashMap<String, (u64, u64)>, ImageError> {
        let trees = read(text)?;
        let Linked { exports, mut symbols } = link(&trees)?;
        let mut places = HashMap::new();
        let all = trees.iter().enumerate().flat_map(|(place, tree)| {
            tree.variables.iter().enumerate().map(move |(index, variable)| (place, index, variable))
        });
        let placed = all.filter(|(place, index, variable)| variable.is_managed && is_placed(&exports, variable, *place, *index));
        let placed: Vec<_> = placed.collect();
        for (number, (place, _, variable)) in placed.iter().enumerate() {
            let address = managed.place(device, number, variable.size)?;
            symbols[*place].addresses.insert(variable.name, address);
            places.insert(variable.name.to_owned(), (address, variable.size));
        }
        if !managed.is_ready() {
            for (place, _, variable) in placed {
                initialise(variable, symbols[place].addresses[variable.name], &symbols[place])?;
            }
            managed.set_ready();
        }
        Ok(places)
    }

    /// Places every variable once, and tells each module where those that it names are.
    fn place_globals<'a>(
        &mut self,
        trees: &[ast::Module<'a>],
        exports: &Exports<'a>,
        symbols: &mut [decode::Symbols<'a>],
        context: &Context,
    ) -> Result<(), ImageError> {
        let mut exported = HashMap::new();
        let mut managed = 0;
        for (place, tree) in trees.iter().enumerate() {
            for (index, variable) in tree.variables.iter().enumerate() {
                if !is_placed(exports, variable, place, index) {
                    continue;
                }
                let address = if variable.is_managed {
                    managed += 1;
                    self.managed.place(context.device, managed - 1, variable.size)?
                } else {
                    let owner = context.memory(Sort::Global, variable.size);
                    let address = arena().allocate(owner).ok_or(ImageError::OutOfMemory)?;
                    self.placed.push(address);
                    address
                };
                self.const_size += if variable.space == Space::Const { variable.size } else { 0 };
                symbols[place].addresses.insert(variable.name, address);
                let global = Global { address, size: variable.size };
                if variable.linkage == Linkage::Private {
                    self.globals.entry(variable.name.to_owned()).or_insert(global);
                } else {
                    exported.insert(variable.name, address);
                    self.globals.insert(variable.name.to_owned(), global);
                }
            }
        }
        for (tree, symbols) in trees.iter().zip(symbols) {
            for variable in tree.variables.iter().filter(|variable| variable.space != Space::Shared) {
                if symbols.addresses.contains_key(variable.name) {
                    continue;
                }
                let Some(address) = exported.get(variable.name) else {
                    let what = format!("`{}` is declared extern and defined nowhere", variable.name);
                    return Err(SyntaxError::new(variable.line, what).into());
                };
                symbols.addresses.insert(variable.name, *address);
            }
        }
        Ok(())
    }

    /// The kernel of that name.
    pub fn kernel(&self, name: &str) -> Option<usize> {
        self.functions.iter().position(|function| function.is_entry && function.name == name)
    }

    /// Kernels, by their numbers in `functions`.
    pub fn kernels(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.functions.len()).filter(|&number| self.functions[number].is_entry)
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        for address in &self.placed {
            arena().release(*address);
        }
    }
}

/// The device runtime's functions that are PTX themselves.
const RUNTIME: &str = include_str!("runtime.ptx");

/// The modules of a text, with the device runtime's if they use it.
fn read(text: &str) -> Result<Vec<ast::Module<'_>>, ImageError> {
    let mut trees = ptx::parse(text)?;
    let limit = trees.iter().filter_map(|tree| tree.max_registers).min();
    trees.iter_mut().for_each(|tree| tree.max_registers = limit);
    if trees.iter().flat_map(|tree| &tree.functions).any(|f| f.body.is_none() && f.name.starts_with("cudaCG")) {
        let known: HashSet<&str> = trees.iter().flat_map(|tree| &tree.functions).filter(|f| f.body.is_some()).map(|f| f.name).collect();
        let mut runtime = ptx::parse(RUNTIME)?;
        // A program's own definition goes before.
        runtime.iter_mut().for_each(|tree| tree.functions.retain(|f| !known.contains(f.name)));
        trees.extend(runtime);
    }
    Ok(trees)
}

/// What a text's modules name, before their variables have addresses.
struct Linked<'a> {
    exports: Exports<'a>,
    symbols: Vec<decode::Symbols<'a>>,
}

fn link<'a>(trees: &[ast::Module<'a>]) -> Result<Linked<'a>, ImageError> {
    let exports = Exports::new(trees).map_err(ImageError::Link)?;
    let firsts = first_functions(trees);
    let names = trees.iter().zip(firsts);
    let mut symbols: Vec<_> =
        names.map(|(tree, first)| decode::Symbols::new(tree, first, &exports, HashMap::new())).collect();
    decode::place_common(trees, &mut symbols);
    Ok(Linked { exports, symbols })
}

/// Names that the modules of a text use and nobody defines.
///
/// # Errors
/// What is wrong with the text, or is defined twice.
pub fn undefined(text: &str) -> Result<Vec<String>, ImageError> {
    let trees = read(text)?;
    let Linked { exports, symbols } = link(&trees)?;
    let mut names = Vec::new();
    for (tree, symbols) in trees.iter().zip(&symbols) {
        names.extend(symbols.missing(tree).into_iter().filter(|name| Builtin::named(name).is_none()));
        let lacks = |v: &&Variable<'_>| {
            v.linkage == Linkage::Extern && v.space != Space::Shared && !exports.variables.contains_key(v.name)
        };
        names.extend(tree.variables.iter().filter(lacks).map(|variable| variable.name));
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// Whether a module of a text defines one of `names` for others.
///
/// # Errors
/// What is wrong with the text.
pub fn defines(text: &str, names: &[String]) -> Result<bool, ImageError> {
    let trees = ptx::parse(text)?;
    let exports = Exports::new(&trees).map_err(ImageError::Link)?;
    Ok(names.iter().any(|name| {
        exports.functions.contains_key(name.as_str()) || exports.variables.contains_key(name.as_str())
    }))
}

/// Whether this declaration of a variable, in that place, is the one that gets memory.
fn is_placed(exports: &Exports<'_>, variable: &Variable<'_>, module: usize, index: usize) -> bool {
    let is_exported = |export: &Export| (export.number as usize, export.index) == (module, index);
    match variable.linkage {
        _ if variable.space == Space::Shared => false,
        Linkage::Extern => false,
        Linkage::Private => true,
        _ => exports.variables.get(variable.name).is_some_and(is_exported),
    }
}

/// Writes a variable's first values; what has no initialiser is zero.
fn initialise(variable: &Variable<'_>, at: u64, symbols: &decode::Symbols<'_>) -> Result<(), ImageError> {
    let size = usize::try_from(variable.size).unwrap_or(0);
    let mut bytes = vec![0u8; size];
    let element = variable.ty.size() as usize;
    for (number, init) in variable.init.iter().enumerate() {
        let value = match init {
            Init::Bits(bits) => *bits,
            Init::Address(name, offset) => {
                let function = || symbols.functions.get(name).map(|number| FUNCTION_BASE + u64::from(*number));
                let Some(base) = symbols.addresses.get(name).copied().or_else(function) else {
                    let what = format!("`{name}` in the initialiser of `{}` is not declared", variable.name);
                    return Err(SyntaxError::new(variable.line, what).into());
                };
                base.wrapping_add_signed(*offset)
            }
        };
        let Some(to) = bytes.get_mut(number * element..(number + 1) * element) else {
            let what = format!("`{}` has more initial values than elements", variable.name);
            return Err(SyntaxError::new(variable.line, what).into());
        };
        to.copy_from_slice(&value.to_le_bytes()[..element.min(8)]);
    }
    crate::memory::write(at, &bytes);
    Ok(())
}
