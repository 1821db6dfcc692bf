//! A module: functions decoded from PTX and the device memory of its variables, in one context.

pub mod image;

use crate::decode;
use crate::exec::function::Function;
use crate::memory::{FUNCTION_BASE, Owner, arena};
use crate::ptx::ast::{self, Init, Variable};
use crate::ptx::types::Space;
use crate::ptx::{self, SyntaxError};
use std::collections::HashMap;
use std::sync::Arc;

/// Why an image became no module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    #[error("the image is neither PTX nor a fat binary")]
    Invalid,
    #[error("the image holds no PTX")]
    NoPtx,
    #[error("{0}")]
    Ptx(#[from] SyntaxError),
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
    pub version: u32,
    pub target: u32,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Function({}, {} operations)", self.name, self.ops.len())
    }
}

impl Module {
    /// Parses and decodes `text`, and places its variables for the context numbered `context`.
    ///
    /// # Errors
    /// What is wrong with the text, or that memory is spent.
    pub fn load(text: &str, context: u64) -> Result<Self, ImageError> {
        let tree = ptx::parse(text)?;
        let mut module =
            Self { functions: Arc::default(), globals: HashMap::new(), version: tree.version, target: tree.target };
        let addresses = module.place_globals(&tree, context)?;
        let symbols = decode::Symbols::new(&tree, addresses);
        for variable in &tree.variables {
            if let Some(at) = symbols.addresses.get(variable.name) {
                initialise(variable, *at, &symbols)?;
            }
        }
        module.functions = decode::functions(&tree, &symbols)?.into();
        Ok(module)
    }

    fn place_globals<'a>(&mut self, tree: &ast::Module<'a>, context: u64) -> Result<HashMap<&'a str, u64>, ImageError> {
        let mut addresses = HashMap::new();
        for variable in tree.variables.iter().filter(|v| v.space != Space::Shared && !v.is_extern) {
            let owner = Owner { context, host_flags: None, managed: false, size: variable.size };
            let address = arena().allocate(owner).ok_or(ImageError::OutOfMemory)?;
            addresses.insert(variable.name, address);
            self.globals.insert(variable.name.to_owned(), Global { address, size: variable.size });
        }
        for variable in tree.variables.iter().filter(|v| v.space != Space::Shared && v.is_extern) {
            if !addresses.contains_key(variable.name) {
                let what = format!("`{}` is declared extern and defined nowhere", variable.name);
                return Err(SyntaxError::new(variable.line, what).into());
            }
        }
        Ok(addresses)
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
        for global in self.globals.values() {
            arena().release(global.address);
        }
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
