//! `paravanectl`: an operator's hand on paravaned.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use paravane_daemon::ctl::{Command, run};

fn main() -> ExitCode {
    match run(Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("paravanectl: {error}");
            ExitCode::FAILURE
        }
    }
}
