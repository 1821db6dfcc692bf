//! The account of one worker: a page of counters that the worker adds to and
//! the backend reads, also after the worker's end. `usage.rs` sums them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::devices::DEVICES_MAX;
use crate::page::Page;

/// A counter's place in the page, which another release's paravaned reads as well. All count up from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Calls whose reply the guest awaited.
    CallsAwaited,
    /// Calls without a reply.
    CallsPosted,
    /// Kernels launched.
    Kernels,
    /// Bytes copied from guest memory to device memory.
    BytesToDevice,
    /// Bytes copied from device memory to guest memory.
    BytesFromDevice,
    /// Time that the GPU worked for this process, in nanoseconds.
    GpuTimeNs,
    /// Graphs launched.
    GraphLaunches,
    /// Time that its threads waited for another VM's lease to end.
    WaitedNs,
    /// Time that its threads waited because the VM was at its cap.
    ThrottledNs,
    /// Time that its commands took beyond the lease.
    OverrunNs,
    /// Bytes of device memory that went to the host, so that others had room.
    SwappedOutBytes,
    /// Bytes that came back.
    SwappedInBytes,
}

/// Every counter with its name in the usage report, in the report's order.
pub const COUNTERS: [(Counter, &str); 12] = [
    (Counter::CallsAwaited, "calls_awaited"),
    (Counter::CallsPosted, "calls_posted"),
    (Counter::Kernels, "kernels"),
    (Counter::GraphLaunches, "graph_launches"),
    (Counter::BytesToDevice, "bytes_to_device"),
    (Counter::BytesFromDevice, "bytes_from_device"),
    (Counter::GpuTimeNs, "gpu_time_ns"),
    (Counter::WaitedNs, "waited_ns"),
    (Counter::ThrottledNs, "throttled_ns"),
    (Counter::OverrunNs, "overrun_ns"),
    (Counter::SwappedOutBytes, "swapped_out_bytes"),
    (Counter::SwappedInBytes, "swapped_in_bytes"),
];

/// A figure's place in the page: what is so now, where a counter says what has
/// been. Written where libcuda tells it (cpu-driver does).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Gauge {
    /// Memory in use as the VM's budget counts it, in bytes.
    MemoryBytes,
    /// Contexts that live.
    Contexts,
    /// How much of the last sample period the device worked, in percent.
    BusyPercent,
    /// When that period ended, in microseconds since 1970; 0 before the first.
    SeenUs,
    /// Most memory that was ever in use.
    MemoryPeakBytes,
}

/// Where the gauges begin; counters have all the room before.
const GAUGES: usize = 1024;
/// Where the GPU time of each device begins, in the order of the VM's leases.
const ON_DEVICES: usize = 2048;

/// GPU time of each device, in nanoseconds, in the order of the VM's leases.
pub type OnDevices = [u64; DEVICES_MAX];

/// The mapped page.
#[derive(Debug)]
pub struct AccountPage(Page);

impl AccountPage {
    /// A fresh page, all zero, and the descriptor to give to the worker.
    pub fn create() -> io::Result<(Self, OwnedFd)> {
        let (page, file) = Page::create("paravane-account")?;
        Ok((Self(page), file))
    }

    /// Maps the page that a descriptor from [`AccountPage::create`] names.
    pub fn map(file: impl AsFd) -> io::Result<Self> {
        Page::map(file).map(Self)
    }

    /// A counter, to add to with `Relaxed`.
    pub fn counter(&self, counter: Counter) -> &AtomicU64 {
        self.0
            .words()
            .atomic_u64(counter as usize * size_of::<u64>())
    }

    /// A gauge.
    pub fn gauge(&self, gauge: Gauge) -> &AtomicU64 {
        self.0.words().atomic_u64(GAUGES + gauge as usize * size_of::<u64>())
    }

    /// So much memory is in use.
    pub fn set_memory(&self, bytes: u64) {
        self.gauge(Gauge::MemoryBytes).store(bytes, Ordering::Relaxed);
        self.gauge(Gauge::MemoryPeakBytes).fetch_max(bytes, Ordering::Relaxed);
    }

    /// What of [`Counter::GpuTimeNs`] is of the device of this number. A release that tells of none leaves it 0.
    pub fn gpu_time_on(&self, device: usize) -> &AtomicU64 {
        let place = device.min(DEVICES_MAX - 1);
        self.0.words().atomic_u64(ON_DEVICES + place * size_of::<u64>())
    }

    /// That of all devices.
    pub fn read_devices(&self) -> OnDevices {
        std::array::from_fn(|device| self.gpu_time_on(device).load(Ordering::Relaxed))
    }

    /// The device of this number has worked so long for the process since the last time.
    pub fn add_gpu_time(&self, device: usize, ns: u64) {
        self.gpu_time_on(device).fetch_add(ns, Ordering::Relaxed);
        self.counter(Counter::GpuTimeNs).fetch_add(ns, Ordering::Relaxed);
    }

    /// All counters, in the order of [`COUNTERS`].
    pub fn read(&self) -> [u64; COUNTERS.len()] {
        COUNTERS.map(|(counter, _)| self.counter(counter).load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_mapping_adds_the_other_reads() {
        let (page, file) = AccountPage::create().unwrap();
        let worker = AccountPage::map(&file).unwrap();
        worker.counter(Counter::Kernels).fetch_add(3, Ordering::Relaxed);
        worker.add_gpu_time(1, 5);
        worker.gauge(Gauge::MemoryBytes).store(7, Ordering::Relaxed);
        drop(worker);
        assert_eq!(page.gauge(Gauge::MemoryBytes).load(Ordering::Relaxed), 7);
        assert_eq!(page.read(), [0, 0, 3, 0, 0, 0, 5, 0, 0, 0, 0, 0]);
        assert_eq!(page.read_devices()[..3], [0, 5, 0]);
        page.gpu_time_on(usize::MAX).store(9, Ordering::Relaxed);
        assert_eq!(page.read_devices()[DEVICES_MAX - 1], 9);
    }
}
