//! paravanectl: what an operator types.

pub mod http;
pub mod table;
pub mod time;
pub mod top;

mod command;
mod print;

pub use command::{Command, Failure, run};
