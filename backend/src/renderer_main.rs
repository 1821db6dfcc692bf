//! `paravane-renderer`; see the library's `renderer`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    paravane_backend::renderer::main()
}
