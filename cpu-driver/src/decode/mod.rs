//! From syntax tree to operations. `symbols` knows what names of the module stand for, `function`
//! walks a body, `slots` gives registers and constants their places, and each family of
//! instructions has a room of its own.

mod arithmetic;
mod asynchronous;
mod atomic;
mod bits;
mod call;
mod carry;
mod compare;
mod control;
mod convert;
mod float;
mod function;
mod half;
pub mod link;
mod matrix;
mod memory;
mod moves;
mod parts;
mod slots;
mod small_float;
mod symbols;
mod texture;
mod warp;

pub use function::{functions, params};
pub use symbols::{Symbols, layout, place_common};

use crate::ptx::SyntaxError;

/// Why an instruction has no operation.
#[derive(Debug)]
enum Problem {
    /// This driver does not execute it: it becomes a trap.
    Unknown,
    /// The text breaks PTX's rules: the module is refused.
    Bad(String),
}

type Step<T = ()> = Result<T, Problem>;

fn bad<T>(what: impl Into<String>) -> Step<T> {
    Err(Problem::Bad(what.into()))
}

impl Problem {
    fn at(self, line: u32) -> Option<SyntaxError> {
        match self {
            Self::Unknown => None,
            Self::Bad(what) => Some(SyntaxError::new(line, what)),
        }
    }
}
