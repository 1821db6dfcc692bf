//! The virtio-gpu device of one connection, as vhost-user-backend sees it:
//! queues are drained into `process.rs`, events of workers become answers, and
//! the end of rings, memory or connection ends all workers. Two threads come
//! here: the front end's requests, and queues with events; one lock keeps them
//! apart, so that after stop_vring nothing more is written to a ring.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Instant;

use paravane_protocol::limits::QUEUE_SIZE_MAX;
use paravane_protocol::virtio_gpu::{CONTROL_QUEUE, CtrlHdr};
use vhost::vhost_user::message::{VhostUserShMemConfig, VhostUserSharedMsg};
use vhost::vhost_user::{Backend, GpuBackend, VhostUserProtocolFeatures};
use vhost_user_backend::{VhostUserBackend, VringT};
use virtio_queue::QueueT;
use vm_memory::{ByteValued, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

use crate::channels::Channels;
use crate::command::parse;
use crate::config;
use crate::context::Contexts;
use crate::events::{Events, Source};
use crate::fence::{Ticket, Timeline, Timelines};
use crate::front_end::{Done, Failed, Requests};
use crate::gl::Gl;
use crate::host::Host;
use crate::memory::MemoryTable;
use crate::objects::Objects;
use crate::process::Outcome;
use crate::queue::{Answer, Memory, Request, Vring, notify};
use crate::resource::Resources;
use crate::response::{Refusal, Response};
use crate::scanout::Scanouts;
use crate::screen::Screen;
use crate::told::Regions;
use crate::window::Window;
use crate::{sigbus, slice};

/// Control and cursor.
const QUEUES: u16 = 2;
/// The connection's own events, behind the queues and the number that
/// vhost-user-backend keeps for itself.
pub const EVENTS: u16 = QUEUES + 1;
/// Commands after which events get their turn.
const BATCH: usize = 64;

/// The device's state.
pub struct Device {
    pub(crate) host: Arc<Host>,
    pub(crate) connection: u64,
    pub(crate) memory: Memory,
    pub(crate) table: MemoryTable,
    pub(crate) resources: Resources,
    pub(crate) contexts: Contexts,
    pub(crate) scanouts: Scanouts,
    /// Where a front end shows what scanouts do.
    pub(crate) screen: Option<Screen>,
    pub(crate) channels: Channels,
    pub(crate) gl: Gl,
    /// Where the guest sees memory of the host.
    pub(crate) window: Window,
    /// What other devices may have.
    pub(crate) objects: Objects,
    /// Asks the front end, where that can be asked.
    requests: Option<Requests>,
    pub(crate) events: Events,
    timelines: Timelines<Answer>,
    /// Answers that the request thread has left for the queue thread.
    left: Vec<Answer>,
    ending: bool,
    _guard: sigbus::Guard,
}

impl Device {
    /// A device without memory.
    pub fn new(host: Arc<Host>, connection: u64) -> io::Result<Self> {
        Ok(Self {
            window: Window::new(host.window_bytes),
            objects: Objects::default(),
            requests: None,
            host,
            connection,
            memory: GuestMemoryAtomic::new(GuestMemoryMmap::new()),
            table: MemoryTable::default(),
            resources: Resources::default(),
            contexts: Contexts::default(),
            scanouts: Scanouts::default(),
            screen: None,
            channels: Channels::default(),
            gl: Gl::default(),
            events: Events::new()?,
            timelines: Timelines::default(),
            left: Vec::new(),
            ending: false,
            _guard: sigbus::Guard::default(),
        })
    }

    /// Executes one command. Returns the answers that may go out.
    fn execute(&mut self, queue: usize, request: Request) -> Option<Answer> {
        let (header, parsed) = parse(&request.bytes);
        let header = header.unwrap_or_default();
        let timeline = Timeline::of(&header);
        let outcome = match parsed {
            Ok(command) => self.process(&header, command),
            Err(fault) => {
                self.host.faults.guest(self.connection, fault);
                Outcome::Done(Refusal::Unspecified.into())
            }
        };
        match outcome {
            Outcome::Done(response) => {
                if let Response::Refused(refusal) = response {
                    self.refused(&header, refusal);
                }
                self.timelines.finish(timeline, request.answer(queue, header, response))
            }
            Outcome::Waits(cause) => {
                let answer = request.answer(queue, header, Response::Done);
                let ticket = self.timelines.wait(timeline, answer);
                self.channels.park(cause, ticket, Instant::now());
                None
            }
            Outcome::Renders => {
                let answer = request.answer(queue, header, Response::Done);
                let ticket = self.timelines.wait(timeline, answer);
                self.gl.park(ticket);
                None
            }
            Outcome::Asks(question) => {
                let answer = request.answer(queue, header, Response::Done);
                let ticket = self.timelines.wait(timeline, answer);
                self.screen.iter().for_each(|screen| screen.ask(question, ticket));
                None
            }
            Outcome::Unmaps(resource) => {
                let answer = request.answer(queue, header, Response::Done);
                let ticket = self.timelines.wait(timeline, answer);
                if !self.window.unmap(resource, Some(ticket)) {
                    // Nobody is there to do it: it is answered with the next events.
                    self.left.extend(self.timelines.complete(ticket));
                    self.events.nudge();
                }
                None
            }
        }
    }

    fn refused(&self, header: &CtrlHdr, refusal: Refusal) {
        log::debug!(
            "connection {}: command {:#x} is refused: {refusal:?}",
            self.connection,
            header.kind.get()
        );
    }

    /// Takes what has happened since. Returns the answers that may go out.
    fn events(&mut self) -> Vec<Answer> {
        let mut tickets: Vec<Ticket> = Vec::new();
        let mut told: Vec<(Ticket, Response)> = Vec::new();
        let memory = self.memory.memory();
        for source in self.events.take() {
            match source {
                Source::Timer | Source::Nudge => {}
                Source::Renderer => told.extend(self.rendered()),
                Source::GuestWake(id) => self.channels.on_guest_wake(id),
                Source::Control(id) => {
                    let (channels, env) = self.channels_and_env(&memory);
                    tickets.extend(channels.on_control(id, &env));
                }
                Source::Death(id) => {
                    let (channels, env) = self.channels_and_env(&memory);
                    tickets.extend(channels.on_death(id, &env));
                }
            }
        }
        tickets.extend(self.channels.awake(Instant::now(), &memory));
        self.events.set_deadline(self.channels.deadline());
        let mut answers = std::mem::take(&mut self.left);
        told.extend(self.screen.iter().flat_map(Screen::answers));
        told.extend(self.front_end_answers());
        for (ticket, response) in told {
            self.timelines.amend(ticket, |answer| answer.response = response);
            tickets.push(ticket);
        }
        answers.extend(tickets.into_iter().flat_map(|ticket| self.timelines.complete(ticket)));
        answers
    }

    /// What the front end has done since.
    fn front_end_answers(&mut self) -> Vec<(Ticket, Response)> {
        let done = self.requests.as_ref().map(Requests::done).unwrap_or_default();
        let answers = done.into_iter().map(|Done { ticket, response, failed }| {
            match failed {
                Some(Failed::Map(taken)) => self.window.is_not_mapped(taken),
                Some(Failed::Add(uuid)) => self.objects.is_not_known(uuid),
                None => {}
            }
            (ticket, response)
        });
        answers.collect()
    }

    /// Ends all workers and forgets everything that the guest has made. Returns
    /// the answers that it has not got.
    fn clear(&mut self) -> Vec<Answer> {
        self.channels.end(&self.host);
        self.window.clear();
        self.objects.clear();
        self.gl.clear();
        self.resources = Resources::default();
        self.contexts = Contexts::default();
        self.scanouts = Scanouts::default();
        self.screen.iter().for_each(Screen::clear);
        self.events.set_deadline(None);
        let mut answers = std::mem::take(&mut self.left);
        answers.append(&mut self.timelines.take_all());
        answers
    }

    fn set_memory(&mut self, memory: Memory) -> io::Result<()> {
        let mut of_window = Regions::new();
        let table = self.table.next(&memory.memory(), |file| {
            let is_windows = self.window.has(file);
            if is_windows {
                *of_window.entry(file).or_default() += 1;
            }
            is_windows
        })?;
        self.window.tell(of_window);
        let (kept, same) = (table.keeps(&self.table), table.is(&self.table));
        self._guard = sigbus::Guard::new(&memory.memory());
        self.memory = memory;
        self.table = table;
        if same {
            log::debug!("connection {}: guest memory is as it was", self.connection);
        } else if kept {
            self.channels.set_memory(&self.table);
            self.tell_renderer_of_memory();
        } else {
            log::info!("connection {}: guest memory has changed", self.connection);
            self.left = self.clear();
            self.events.nudge();
        }
        Ok(())
    }
}

/// A device with the lock that its two threads share.
pub struct DeviceBackend<S> {
    device: Mutex<Device>,
    /// The queue thread has short slices.
    shortened: Once,
    /// Dropped when no thread uses the device any more.
    _slot: S,
}

impl<S: Send + Sync> DeviceBackend<S> {
    /// A device for a new connection.
    pub fn new(host: Arc<Host>, connection: u64, slot: S) -> io::Result<Self> {
        let device = Mutex::new(Device::new(host, connection)?);
        Ok(Self { device, shortened: Once::new(), _slot: slot })
    }

    // A panic under the lock is a bug; the device's own threads go on, so that
    // at least its workers end.
    fn device(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The descriptor to watch for [`EVENTS`].
    pub fn events_fd(&self) -> RawFd {
        self.device().events.epoll().as_raw_fd()
    }

    /// The front end is gone: ends all workers, and the queue thread.
    pub fn end(&self) {
        let mut device = self.device();
        device.clear();
        device.ending = true;
        device.events.nudge();
    }

    /// Takes commands from a queue until it is empty.
    fn drain(&self, queue: usize, vrings: &[Vring]) {
        let Some(vring) = vrings.get(queue) else { return };
        let mut idle = 0;
        // A ring that says that there is more but gives nothing is broken.
        while idle < 2 {
            // Without guest memory there is no ring, and nothing to take.
            let _ = vring.disable_notification();
            let taken = self.take(queue, vring);
            idle = if taken == 0 { idle + 1 } else { 0 };
            self.serve_events(vrings);
            let device = self.device();
            let stopped = device.ending || !vring.get_ref().get_queue().ready();
            if stopped || (taken < BATCH && !vring.enable_notification().unwrap_or(false)) {
                return;
            }
        }
    }

    /// Takes up to [`BATCH`] commands. Returns how many there were.
    fn take(&self, queue: usize, vring: &Vring) -> usize {
        let mut taken = 0;
        while taken < BATCH {
            let mut device = self.device();
            // A guest may go on with its rings after its front end has gone.
            if device.ending {
                break;
            }
            let Some(request) = Request::next(vring, &device.memory) else { break };
            taken += 1;
            if let Some(answer) = device.execute(queue, request) {
                answer.put(vring, &device.memory);
            }
        }
        if taken > 0 {
            let _device = self.device();
            notify(vring);
        }
        taken
    }

    /// Serves workers and deadlines.
    fn serve_events(&self, vrings: &[Vring]) {
        let mut device = self.device();
        for answer in device.events() {
            if let Some(vring) = vrings.get(answer.queue) {
                answer.put(vring, &device.memory);
                notify(vring);
            }
        }
    }
}

impl<S: Send + Sync> VhostUserBackend for DeviceBackend<S> {
    type Bitmap = ();
    type Vring = Vring;

    fn num_queues(&self) -> usize {
        QUEUES.into()
    }

    fn max_queue_size(&self) -> usize {
        QUEUE_SIZE_MAX
    }

    fn features(&self) -> u64 {
        let device = self.device();
        config::features(device.host.with_3d, device.host.exports())
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        let always = VhostUserProtocolFeatures::CONFIG | VhostUserProtocolFeatures::MQ;
        // What it takes to ask the front end, and to know what it has done.
        let asks = VhostUserProtocolFeatures::BACKEND_REQ
            | VhostUserProtocolFeatures::BACKEND_SEND_FD
            | VhostUserProtocolFeatures::REPLY_ACK;
        // The front end tells of each mapping as of a region of memory.
        let maps = asks | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS | VhostUserProtocolFeatures::SHMEM;
        let device = self.device();
        let window = if device.host.window_bytes > 0 { maps } else { always };
        let objects = if device.host.exports() { asks | VhostUserProtocolFeatures::SHARED_OBJECT } else { always };
        always | window | objects
    }

    fn get_shmem_config(&self) -> io::Result<VhostUserShMemConfig> {
        Ok(self.device().window.config())
    }

    fn set_backend_req_fd(&self, front_end: Backend) {
        let mut device = self.device();
        let started = device.events.nudge_fd().and_then(|nudge| {
            let requests = Requests::start(front_end, nudge, device.connection)?;
            device.window.open(requests.clone());
            device.objects.open(requests.clone());
            device.requests = Some(requests);
            Ok(())
        });
        if let Err(error) = started {
            log::error!("connection {}: the front end cannot be asked: {error}", device.connection);
        }
    }

    fn get_shared_object(&self, uuid: VhostUserSharedMsg) -> io::Result<File> {
        self.device().objects.get(uuid.as_slice()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn set_event_idx(&self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        config::read(offset, size, self.device().capsets().len())
    }

    fn update_memory(&self, memory: Memory) -> io::Result<()> {
        self.device().set_memory(memory)
    }

    fn reset_device(&self) {
        self.device().clear();
    }

    fn stop_vring(&self, queue: u32) -> io::Result<()> {
        // A stopped control queue is a driver that has been reset or unloaded:
        // its pages may be somebody else's in a moment.
        if queue as usize == CONTROL_QUEUE {
            self.device().clear();
        }
        Ok(())
    }

    fn set_gpu_socket(&self, socket: GpuBackend) -> io::Result<()> {
        let mut device = self.device();
        let nudge = device.events.nudge_fd()?;
        device.screen = Some(Screen::start(socket, nudge, device.connection, device.host.dmabuf_scanout)?);
        Ok(())
    }

    fn handle_event(&self, event: u16, _: EventSet, vrings: &[Vring], _: usize) -> io::Result<()> {
        self.shortened.call_once(slice::shorten);
        if event == EVENTS {
            self.serve_events(vrings);
        } else {
            self.drain(event.into(), vrings);
        }
        if self.device().ending {
            // vhost-user-backend ends the queue thread on an error only.
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}
