//! PTX text to syntax tree: the lexer cuts tokens, the parser reads directives and variables, the
//! body reader reads instructions. Nothing here knows how an instruction is executed; `decode` does.

pub mod ast;
mod body;
pub mod lexer;
mod parser;
#[cfg(test)]
mod tests;
pub mod types;

pub use parser::{MAX_REGISTERS, parse};

/// Why a PTX text was refused: the line it happened on and what was wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("PTX line {line}: {what}")]
pub struct SyntaxError {
    pub line: u32,
    pub what: String,
}

impl SyntaxError {
    pub fn new(line: u32, what: impl Into<String>) -> Self {
        Self { line, what: what.into() }
    }
}

pub type Result<T> = std::result::Result<T, SyntaxError>;
