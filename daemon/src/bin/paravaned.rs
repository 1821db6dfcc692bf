//! `paravaned`: one per host. Gives every VM its share of the GPU, keeps the account of it, and answers operators.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use log::LevelFilter;
use paravane_daemon::config::{Config, DEFAULT_CONFIG};
use paravane_daemon::events::Kind;
use paravane_daemon::host::{Host, Tick, with_ledger};
use paravane_daemon::{control, peer, registration};
use tokio::signal::unix::{SignalKind, signal};

const EXAMPLES: &str = "\
Examples:
  The host's own, as its unit starts it:
    paravaned

  Another file, checked only:
    paravaned --check-config --config ./paravaned.toml

  After a change of the file, without a restart:
    systemctl reload paravaned        (or: kill -HUP, or: paravanectl reload)";

/// Every VM's share of the host's GPU, and the account of it.
#[derive(Debug, Parser)]
#[command(name = "paravaned", version, after_help = EXAMPLES)]
struct Options {
    /// The settings [default: /etc/paravane/paravaned.toml, or defaults if there is none]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Check the settings and end
    #[arg(long)]
    check_config: bool,

    /// What to log: off, error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: LevelFilter,
}

fn main() -> ExitCode {
    let options = Options::parse();
    env_logger::Builder::new().filter_level(options.log_level).format_target(false).init();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("paravaned: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let path = options.config.clone().unwrap_or_else(|| DEFAULT_CONFIG.into());
    let config = if options.config.is_none() && !path.exists() {
        log::info!("{} is not there: everything is as it is by default", path.display());
        Config::default()
    } else {
        Config::read(&path)?
    };
    let group = |name: &Option<String>| name.as_deref().map(peer::group).transpose();
    let (backends, operators) = (group(&config.registration.group)?, group(&config.control.group)?);
    if options.check_config {
        println!("{}: good, {} VM(s)", path.display(), config.vm.len());
        return Ok(());
    }
    raise_descriptor_limit();
    let at = |path: &std::path::Path, error| format!("{}: {error}", path.display());
    let socket = registration::listen(&config.registration.socket, backends)
        .map_err(|error| at(&config.registration.socket, error))?;
    let host = Arc::new(with_ledger(config.clone(), path)?);
    host.events.say(Kind::Started, "", format!("paravaned {}", env!("CARGO_PKG_VERSION")));
    registration::start(Arc::clone(&host), socket, backends)?;
    start_ticking(Arc::clone(&host))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(answer(&host, &config, operators))?;
    // The last second.
    host.tick(&mut Tick::default());
    log::info!("ends on a signal; back ends go on alone");
    Ok(())
}

/// Operators' socket until SIGTERM or SIGINT; SIGHUP reads the file again.
async fn answer(host: &Arc<Host>, config: &Config, group: Option<u32>) -> Result<(), Box<dyn Error>> {
    let path = &config.control.socket;
    let listener = control::listen(path, group).map_err(|error| format!("{}: {error}", path.display()))?;
    let metrics = match config.metrics.listen {
        Some(address) => {
            let listener = tokio::net::TcpListener::bind(address).await;
            Some(listener.map_err(|error| format!("metrics on {address}: {error}"))?)
        }
        None => None,
    };
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let again = Arc::clone(host);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            if let Err(error) = again.reload() {
                log::error!("everything stays as it was set: {error}");
            }
        }
    });
    let end = async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    };
    Ok(control::serve(Arc::clone(host), listener, group, metrics, end).await?)
}

/// The second hand.
fn start_ticking(host: Arc<Host>) -> std::io::Result<()> {
    const SECOND: Duration = Duration::from_secs(1);
    let serve = move || {
        let mut tick = Tick::default();
        let mut next = std::time::Instant::now() + SECOND;
        loop {
            std::thread::sleep(next.saturating_duration_since(std::time::Instant::now()));
            host.tick(&mut tick);
            // After a halt of the machine it does not catch up.
            next = (next + SECOND).max(std::time::Instant::now());
        }
    };
    std::thread::Builder::new().name("second hand".into()).spawn(serve)?;
    Ok(())
}

/// Each VM holds some descriptors, and each of its processes.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::warn!("the limit of open files stays as it is: {error}");
    }
}
