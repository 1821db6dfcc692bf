//! The command line and what each command does.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hyper::Method;
use paravane_backend::register::wanted::Wanted;

use super::http::{Control, NoAnswer, escaped};
use super::{print, time, top};
use crate::config::DEFAULT_CONTROL;
use crate::control::{KillBody, SetBody, UsageQuery};
use crate::events::{self, Event};
use crate::ledger::{By, DeviceRow, Row};
use crate::view::{Snapshot, VmView};

const EXAMPLES: &str = "\
Examples:
  Who uses the GPU, and how much?
    paravanectl list
    paravanectl top

  One VM with its processes, its settings and where they come from:
    paravanectl info vm1

  Three times the default share from now on; a cap of a quarter for good:
    paravanectl set vm1 --weight 300
    paravanectl set vm1 --cap 25 --persistent

  What was used in November, as a table for a bill; per process in the last six hours; where GPUs cost differently:
    paravanectl usage --from 2026-11-01 --to 2026-12-01 -o csv > november.csv
    paravanectl usage vm1 --from 6h --by process
    paravanectl usage --from 30d --by device

  What happens, as it happens; an end for a guest's process:
    paravanectl events --follow
    paravanectl kill vm1 --pid 4711

  For a program:
    paravanectl -o json list | jq '.vms[] | {name, share}'
    curl --unix-socket /run/paravane/control.sock http://paravaned/metrics";

/// What every command takes.
const EVERYWHERE: &str = "With every command";

/// Shares and accounts of this host's GPUs.
#[derive(Debug, Parser)]
#[command(name = "paravanectl", version, after_help = EXAMPLES)]
pub struct Command {
    /// paravaned's control socket
    #[arg(long, value_name = "PATH", default_value = DEFAULT_CONTROL, global = true, help_heading = EVERYWHERE)]
    socket: PathBuf,

    /// How to print
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t, global = true, help_heading = EVERYWHERE)]
    output: Format,

    #[command(subcommand)]
    what: What,
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Table,
    /// For programs; events are one object a line
    Json,
    /// `usage` only
    Csv,
}

#[derive(Debug, Subcommand)]
enum What {
    /// VMs and devices
    List,
    /// One VM: settings, account, processes
    Info {
        /// Its name
        vm: String,
    },
    /// Change what a VM may have
    Set(Set),
    /// What was used, from the ledger
    Usage(Usage),
    /// Watch VMs and devices
    Top(Top),
    /// What has happened
    Events {
        /// Go on as more happens
        #[arg(short, long)]
        follow: bool,
    },
    /// End a VM's processes on the GPU; the VM itself goes on
    Kill {
        /// The VM's name
        vm: String,
        /// Only the process with this id in the guest
        #[arg(long)]
        pid: Option<u32>,
        /// Only the process with this number, as `info` shows it
        #[arg(long, conflicts_with = "pid")]
        number: Option<u64>,
    },
    /// Have paravaned read its file again
    Reload,
}

#[derive(Debug, Args)]
struct Set {
    /// The VM's name
    vm: String,
    #[command(flatten)]
    set: Wanted,
    /// Write it into paravaned's file too
    #[arg(long)]
    persistent: bool,
}

#[derive(Debug, Args)]
struct Usage {
    /// One VM alone
    vm: Option<String>,
    /// From then: 2026-11-01, "2026-11-01 07:30" (UTC), @SECONDS since 1970, or 15m, 6h, 30d for so long ago
    #[arg(long, value_name = "MOMENT")]
    from: Option<String>,
    /// Until before then [default: now]
    #[arg(long, value_name = "MOMENT")]
    to: Option<String>,
    /// A line per vm, per process, or per vm and device
    #[arg(long, default_value = "vm", value_enum)]
    by: By,
    /// The same as -o csv
    #[arg(long)]
    csv: bool,
}

#[derive(Debug, Args)]
struct Top {
    /// Print one picture and end
    #[arg(long)]
    once: bool,
    /// Its size, as 120x36 [default: the terminal's, else 120x36]
    #[arg(long, value_name = "SIZE", requires = "once", value_parser = size)]
    size: Option<(u16, u16)>,
    /// Colours in that picture even where it does not go to a terminal
    #[arg(long, requires = "once")]
    color: bool,
}

fn size(text: &str) -> Result<(u16, u16), String> {
    let (columns, lines) = text.split_once('x').ok_or("must be COLUMNSxLINES")?;
    let number = |text: &str| text.parse::<u16>().map_err(|_| format!("{text:?} is no number: must be COLUMNSxLINES"));
    Ok((number(columns)?.clamp(40, 1000), number(lines)?.clamp(10, 1000)))
}

/// Why a command is not done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// paravaned's word.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// The terminal's or a pipe's.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What was typed.
    #[error("{0}")]
    Wrong(String),
}

/// Does what was typed.
///
/// # Errors
/// See [`Failure`].
pub fn run(command: Command) -> Result<(), Failure> {
    let control = Control::at(&command.socket)?;
    let json = command.output == Format::Json;
    if command.output == Format::Csv && !matches!(command.what, What::Usage(_)) {
        return Err(Failure::Wrong("-o csv is for usage".into()));
    }
    match command.what {
        What::List => show(&control, "/v1/host", json, |host: &Snapshot| print::list(host)),
        What::Info { vm } => {
            show(&control, &format!("/v1/vms/{}", escaped(&vm)), json, |vm: &VmView| print::info(vm))
        }
        What::Set(set) => change(&control, set, json),
        What::Usage(usage) => used(&control, usage, command.output),
        What::Top(top) if top.once || json => {
            if json {
                return show(&control, "/v1/host?history=true", true, |_: &Snapshot| String::new());
            }
            let color = top.color || io::stdout().is_terminal();
            out(&top::once(&control, top.size, color)?)
        }
        What::Top(_) => top::run(&control),
        What::Events { follow } => happened(&control, follow, json),
        What::Kill { vm, pid, number } => kill(&control, &vm, pid, number),
        What::Reload => {
            control.bytes(Method::POST, "/v1/reload", Vec::new())?;
            out("paravaned has read its file again\n")
        }
    }
}

/// Whoever reads may have seen enough: a closed pipe is no failure.
fn out(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn show<T: serde::de::DeserializeOwned>(
    control: &Control,
    uri: &str,
    json: bool,
    table: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    if json {
        let bytes = control.bytes(Method::GET, uri, Vec::new())?;
        return out(&indented(&bytes)?);
    }
    out(&table(&control.get(uri)?))
}

fn indented(bytes: &[u8]) -> Result<String, Failure> {
    let strange = |error: serde_json::Error| NoAnswer::Strange(error.to_string());
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(strange)?;
    Ok(format!("{value:#}\n"))
}

fn change(control: &Control, set: Set, json: bool) -> Result<(), Failure> {
    let Set { vm, set, persistent } = set;
    if set == Wanted::default() {
        return Err(Failure::Wrong("nothing to set: see paravanectl set --help".into()));
    }
    let uri = format!("/v1/vms/{}", escaped(&vm));
    let answer = control.ask(Method::PATCH, &uri, &SetBody { set, persistent })?;
    if json {
        return out(&indented(&answer)?);
    }
    let answer: InForce = serde_json::from_slice(&answer).map_err(|error| NoAnswer::Strange(error.to_string()))?;
    out(&print::in_force(&answer.vm, &answer.wanted, persistent))
}

/// What paravaned answers to a change.
#[derive(serde::Deserialize)]
struct InForce {
    vm: String,
    wanted: Wanted,
}

fn used(control: &Control, usage: Usage, output: Format) -> Result<(), Failure> {
    let now_s = events::now().as_secs();
    let moment = |text: &Option<String>| text.as_deref().map(|text| time::parse(text, now_s)).transpose();
    let csv = usage.csv || output == Format::Csv;
    let (from, to) = (moment(&usage.from).map_err(Failure::Wrong)?, moment(&usage.to).map_err(Failure::Wrong)?);
    let query = UsageQuery { vm: usage.vm, from, to, by: usage.by, format: csv.then(|| "csv".into()) };
    let uri = format!("/v1/usage?{}", print::query(&query));
    if csv {
        let bytes = control.bytes(Method::GET, &uri, Vec::new())?;
        return out(&String::from_utf8_lossy(&bytes));
    }
    let json = output == Format::Json;
    if usage.by == By::Device {
        return show(control, &uri, json, |answer: &print::Used<DeviceRow>| print::usage_on_devices(answer, &query));
    }
    show(control, &uri, json, |answer: &print::Used<Row>| print::usage(answer, &query))
}

fn happened(control: &Control, follow: bool, json: bool) -> Result<(), Failure> {
    let mut outcome = Ok(());
    control.lines(&format!("/v1/events?follow={follow}"), |line| {
        let text = if json {
            format!("{}\n", String::from_utf8_lossy(line))
        } else {
            serde_json::from_slice(line).map(|event: Event| print::event(&event)).unwrap_or_default()
        };
        let written = io::stdout().lock().write_all(text.as_bytes());
        let goes_on = written.is_ok();
        outcome = written.or_else(|error| {
            if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(Failure::from(error)) }
        });
        goes_on
    })?;
    outcome
}

fn kill(control: &Control, name: &str, pid: Option<u32>, number: Option<u64>) -> Result<(), Failure> {
    let uri = format!("/v1/vms/{}", escaped(name));
    let process = match pid {
        None => number,
        Some(pid) => {
            let vm: VmView = control.get(&uri)?;
            let mut of_pid = vm.processes.iter().filter(|process| process.pid == pid).map(|process| process.number);
            match (of_pid.next(), of_pid.next()) {
                (Some(number), None) => Some(number),
                (None, _) => return Err(Failure::Wrong(format!("{name} runs no process {pid}"))),
                (Some(_), Some(_)) => {
                    let text = format!("{name} runs several processes {pid}, in containers: use --number");
                    return Err(Failure::Wrong(text));
                }
            }
        }
    };
    control.ask(Method::POST, &format!("{uri}/kill"), &KillBody { process })?;
    match process {
        Some(number) => out(&format!("process number {number} of {name} ends\n")),
        None => out(&format!("all processes of {name} on the GPU end\n")),
    }
}
