//! `paravane-backend`: one virtual machine's share of the host's GPU, as a
//! vhost-user back end of a virtio-gpu device. The first argument `worker` or
//! `probe` makes this process one of the backend's children.
#![forbid(unsafe_code)]

use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use paravane_backend::budget::{Budget, UNLIMITED};
use paravane_backend::devices::{self, Device};
use paravane_backend::fault_log::FaultLog;
use paravane_backend::gl::{self, Abilities, Program, Renderer, Starts};
use paravane_backend::host::Host;
use paravane_backend::lease::{LeaseSide, VmLease};
use paravane_backend::options::{Options, capabilities};
use paravane_backend::register::message::Hello;
use paravane_backend::register::wanted::KernelLimit;
use paravane_backend::register::{self, Registration};
use paravane_backend::serve::{Door, given_descriptor, serve};
use paravane_backend::usage::Usage;
use paravane_backend::visible::Visible;
use paravane_backend::worker_process::{Starter, WorkerOptions, reserve_descriptors};
use paravane_backend::{libcuda, logging, sigbus, worker};

/// How long a guest waits for paravaned before it is let in without.
const PATIENCE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.as_slice() {
        [first] if first == "worker" => return worker::main(),
        [first, path] if first == "probe" => return libcuda::probe_main(path),
        _ => {}
    }
    let options = Options::parse();
    if options.print_capabilities {
        println!("{}", capabilities());
        return ExitCode::SUCCESS;
    }
    logging::start(options.log_level);
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("paravane-backend: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let given = match options.fd {
        Some(fd) => Some(given_descriptor(fd).map_err(|error| format!("--fd {fd}: {error}"))?),
        None => None,
    };
    let settings = options.wanted.settings(1)?;
    reserve_descriptors()?;
    raise_descriptor_limit();
    sigbus::install()?;
    // First the door: a wrong path is told before the probe takes its time.
    let door = match (given, &options.socket_path) {
        (Some(fd), _) => Door::connected(fd).map_err(|error| format!("--fd: {error}"))?,
        (None, Some(path)) => Door::socket(path)
            .map_err(|error| format!("--socket-path {}: {error}", path.display()))?,
        (None, None) => return Err("neither --fd nor --socket-path".into()),
    };
    let renderer = renderer(options)?;
    let libcuda = libcuda::choose(options.libcuda.as_deref())?;
    log::info!("libcuda is {} ({})", libcuda.path.display(), libcuda.reason);
    libcuda.devices.iter().try_for_each(|device| options.wanted.check(device))?;
    let uuids: Vec<String> = libcuda.devices.iter().map(|device| device.uuid.clone()).collect();
    let lease = Arc::new(VmLease::start(&uuids, settings)?);
    lease.set_limit(options.wanted.kernel_limit.map(KernelLimit::duration));
    lease.set_swap(options.wanted.swap.map_or(0, |swap| swap.0));
    let budget = Budget::create(options.wanted.memory_quota.map_or(UNLIMITED, |quota| quota.0))?;
    let (usage, visible): (Arc<Usage>, Arc<Visible>) = Default::default();
    visible.set(&[], options.wanted.sms);
    let node = renderer.as_ref().and_then(|renderer| renderer.program.render_node.as_deref());
    let draws = node.and_then(|node| devices::of_node(&libcuda.devices, node));
    let side = LeaseSide::new(
        Arc::clone(&lease),
        Arc::clone(&budget),
        Arc::clone(&visible),
        options.wanted.clone(),
    );
    // Before the first worker starts: it is to see the device that the VM is placed on.
    register(options, &usage, side, libcuda.devices)?;
    let workers = WorkerOptions {
        libcuda: libcuda.path,
        log_level: options.log_level,
        lease: Arc::clone(&lease),
        visible: Arc::clone(&visible),
    };
    let host = Arc::new(Host {
        name: options.name.clone().unwrap_or_else(|| "vm".to_string()),
        with_3d: !options.no_3d,
        window_bytes: if options.vulkan { options.vulkan_window.0 } else { 0 },
        dmabuf_scanout: options.dmabuf_scanout,
        renderer,
        usage_json: options.usage_json.clone(),
        starter: Starter::new(workers, Arc::clone(&budget))?,
        budget,
        usage,
        faults: FaultLog::default(),
        lease,
        visible,
        draws,
        shares: Arc::default(),
        workers: Arc::default(),
    });
    let served = serve(&door, &host);
    host.report_usage();
    Ok(served?)
}

/// Lets paravaned give the leases and keep the account, where there is one.
fn register(
    options: &Options,
    usage: &Arc<Usage>,
    side: LeaseSide,
    devices: Vec<Device>,
) -> Result<(), Box<dyn Error>> {
    let Some(socket) = register::socket(options.paravaned.as_deref()) else { return Ok(()) };
    let mut boot = [0_u8; 16];
    rustix::rand::getrandom(&mut boot, rustix::rand::GetRandomFlags::empty())?;
    let boot = boot.iter().map(|byte| format!("{byte:02x}")).collect();
    let hello = Hello {
        version: register::message::VERSION,
        boot,
        name: options.name.clone(),
        uuid: options.uuid.clone(),
        wanted: options.wanted.clone(),
        devices,
    };
    let (usage, side) = (Arc::clone(usage), Box::new(side));
    Registration { socket, hello, usage, side }.start(PATIENCE)?;
    Ok(())
}

/// What draws OpenGL. One that was named must work; one that lies beside this program is left out if it does not.
fn renderer(options: &Options) -> Result<Option<Renderer>, Box<dyn Error>> {
    if options.no_gl || options.no_3d {
        return Ok(None);
    }
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("paravane-renderer")).filter(|path| path.exists());
    let named = options.renderer.is_some() || options.render_node.is_some() || options.vulkan || options.dmabuf_scanout;
    let Some(path) = options.renderer.clone().or_else(beside) else {
        return if named { Err("there is no paravane-renderer beside this program: --renderer names one".into()) } else { Ok(None) };
    };
    let program = Program { path, render_node: options.render_node.clone(), vulkan: options.vulkan };
    match gl::probe(&program) {
        Ok(Abilities { dmabuf: Err(why), .. }) if options.dmabuf_scanout => {
            Err(format!("--dmabuf-scanout: this host's OpenGL cannot share what it draws: {why}").into())
        }
        Ok(Abilities { capsets, dmabuf }) => {
            log::info!("{} is drawn by {}", if program.vulkan { "OpenGL and Vulkan" } else { "OpenGL" }, program.path.display());
            Ok(Some(Renderer { program, capsets, dmabuf: dmabuf.is_ok(), log_level: options.log_level, starts: Starts::default() }))
        }
        Err(error) if named => Err(format!("--renderer {}: {error}", program.path.display()).into()),
        Err(error) => {
            log::warn!("no OpenGL: {}: {error}", program.path.display());
            Ok(None)
        }
    }
}

/// Every worker and connection holds some descriptors; the usual soft limit of
/// 1024 is for programs that use select().
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::warn!("the limit of open files stays as it is: {error}");
    }
}
