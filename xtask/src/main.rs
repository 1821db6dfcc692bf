//! `cargo xtask`: sets up, builds, demonstrates, tests and packages Paravane. This file holds the command line; each
//! sub-command is a module that says what it does in steps, and everything below them is shared by several.

mod apt;
mod backend;
mod bench;
mod boot;
mod build;
mod cache;
mod clients;
mod daemon;
mod demo;
mod gl;
mod guest_disk;
mod guest_job;
mod guest_root;
mod host_run;
mod initrd;
mod kvm;
mod machine;
mod package;
mod paths;
mod payload;
mod picture;
mod process;
mod qemu;
mod samples;
mod screen;
mod setup;
mod step;
mod table;
mod terminal;
mod test;
mod turns;
mod usage;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Everything that is done with Paravane's source tree.
#[derive(Parser)]
#[command(name = "cargo xtask", version, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Setup(setup::Setup),
    Build(build::Build),
    Demo(demo::Demo),
    Test(test::Test),
    Package(package::Package),
    Bench(bench::Bench),
    Clients(clients::Clients),
    Gl(gl::Gl),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Setup(arguments) => arguments.run(),
        Command::Build(arguments) => arguments.run(),
        Command::Demo(arguments) => arguments.run(),
        Command::Test(arguments) => arguments.run(),
        Command::Package(arguments) => arguments.run(),
        Command::Bench(arguments) => arguments.run(),
        Command::Clients(arguments) => arguments.run(),
        Command::Gl(arguments) => arguments.run(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
