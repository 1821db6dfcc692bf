//! Pools of stream-ordered memory are charged with what they keep, in use or
//! not: a pool with a high release threshold hides nothing. What a pool has given
//! back behind a stream is learnt when it is asked again.

use std::sync::atomic::Ordering;

use paravane_protocol::cuda_types::*;

use super::{Charge, Kept, Key, Memory, granules};
use crate::worker::dispatch::Command;
use crate::worker::libcuda::{Answer, Libcuda, beside_captures, cuda};
use crate::worker::process::Process;

/// Bytes that a pool keeps.
fn reserved(lib: &Libcuda, pool: u64) -> Answer<u64> {
    let mut value = 0_u64;
    let into = (&raw mut value).cast();
    cuda!(lib.cuMemPoolGetAttribute(CUmemoryPool(pool), CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, into))?;
    Ok(value)
}

fn is_captured(lib: &Libcuda, stream: CUstream) -> bool {
    let mut status = CUstreamCaptureStatus(0);
    cuda!(lib.cuStreamIsCapturing(stream, &raw mut status)).is_ok() && status.0 != 0
}

/// The pool that the current device allocates from.
fn current_pool(lib: &Libcuda) -> Answer<u64> {
    let (mut device, mut pool) = (CUdevice(0), CUmemoryPool(0));
    cuda!(lib.cuCtxGetDevice(&raw mut device))?;
    cuda!(lib.cuDeviceGetMemPool(&raw mut pool, device))?;
    Ok(pool.0)
}

impl Memory {
    /// Charges pools with what they keep now.
    pub(super) fn refresh(&self, process: &Process) {
        self.are_pools_stale.store(false, Ordering::Relaxed);
        let pools: Vec<u64> = self.ledger().pools.keys().copied().collect();
        for pool in pools {
            self.refresh_pool(process, pool, 0);
        }
    }

    /// Charges one pool; `taken` bytes are taken for it already. Whether it has come
    /// to more, beyond the quota.
    fn refresh_pool(&self, process: &Process, pool: u64, taken: u64) -> bool {
        let mut ledger = self.ledger();
        // Under the ledger's lock, so that an older answer never follows a newer one.
        let now = reserved(&process.lib, pool).unwrap_or(0);
        let kept = ledger.pools.entry(pool).or_default();
        kept.under_way = kept.under_way.saturating_sub(taken);
        let before = kept.bytes;
        let charge = kept.charge(taken, now);
        kept.bytes = charge;
        if before == charge && taken == 0 {
            return false;
        }
        let kept = Charge { device: kept.device, ..Charge::default() };
        ledger.uncount(Charge { bytes: before, ..kept });
        ledger.count(Charge { bytes: charge, ..kept });
        ledger.resize(before + taken, charge);
        ledger.show();
        charge > before + taken && ledger.share.figures().used > ledger.share.limit()
    }

    /// An allocation from a pool is under way, or not any more.
    fn under_way(&self, pool: u64, device: usize, change: impl FnOnce(u64) -> u64) {
        let mut ledger = self.ledger();
        let kept = ledger.pools.entry(pool).or_insert(Kept { device, ..Kept::default() });
        kept.under_way = change(kept.under_way);
    }

    /// Where there are several devices: a pool that keeps nothing yet is of its first allocation's.
    fn find_device(&self, process: &Process, pool: u64, address: u64) {
        if process.leases.count() == 1 || self.ledger().pools.get(&pool).is_some_and(|kept| kept.bytes > 0) {
            return;
        }
        let (lib, mut ordinal) = (&process.lib, 0_i32);
        let into = (&raw mut ordinal).cast();
        let asked = cuda!(lib.cuPointerGetAttribute(into, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, CUdeviceptr(address)));
        if asked.is_ok() {
            let device = process.leases.of_device(lib, CUdevice(ordinal));
            if let Some(kept) = self.ledger().pools.get_mut(&pool).filter(|kept| kept.bytes == 0) {
                kept.device = device;
            }
        }
    }

    /// Makes the pools give back what nobody uses. Whether there are pools.
    pub(super) fn trim(&self, process: &Process) -> bool {
        let pools: Vec<u64> = self.ledger().pools.keys().copied().collect();
        let lib = &process.lib;
        for pool in &pools {
            if let Err(error) = cuda!(lib.cuMemPoolTrimTo(CUmemoryPool(*pool), 0)) {
                log::debug!("trimming a pool: {error}");
            }
            self.refresh_pool(process, *pool, 0);
        }
        !pools.is_empty()
    }

    /// An allocation from a pool in a stream's order.
    fn allocate(
        &self,
        process: &Process,
        (pool, stream, bytes): (u64, CUstream, u64),
        call: impl FnOnce() -> Answer<u64>,
    ) -> Answer {
        let _change = self.change();
        let lib = &process.lib;
        let room = self.room(process, bytes).or_else(|error| {
            // What the stream is about to free is worth waiting for.
            let waited = beside_captures(lib, || cuda!(lib.cuStreamSynchronize(stream)));
            if waited.is_ok() { self.room(process, bytes) } else { Err(error) }
        });
        let mut room = room?;
        self.under_way(pool, room.device, |bytes| bytes.saturating_add(room.bytes));
        let called = call();
        let address = match called {
            Ok(address) if address != 0 => address,
            failed => {
                self.under_way(pool, room.device, |bytes| bytes.saturating_sub(room.bytes));
                if failed.is_ok() {
                    // A graph's, from the day that the graph is launched.
                    self.keep_as_other(process, room);
                }
                return failed.map(|_| ());
            }
        };
        self.find_device(process, pool, address);
        let charge = Charge { bytes, pool, device: room.device, ..Charge::default() };
        let mut ledger = self.ledger();
        let before = ledger.charges.insert(Key::Address(address), charge);
        before.into_iter().for_each(|before| ledger.end(before));
        drop(ledger);
        let taken = std::mem::take(&mut room.bytes);
        if self.refresh_pool(process, pool, taken) && !self.trims_into(process) {
            // The pool has taken more than was asked for, and there is no room for it.
            self.ledger().charges.remove(&Key::Address(address));
            cuda!(lib.cuMemFreeAsync(CUdeviceptr(address), stream))?;
            beside_captures(lib, || cuda!(lib.cuStreamSynchronize(stream)))?;
            self.trim(process);
            return Err(CUDA_ERROR_OUT_OF_MEMORY);
        }
        Ok(())
    }

    /// Whether the VM is within its quota when pools have given back what nobody uses.
    fn trims_into(&self, process: &Process) -> bool {
        self.trim(process);
        let figures = self.vm();
        figures.used <= figures.limit
    }

    /// A pool's handle has ended; its memory lives on until it is freed.
    fn forget_pool(&self, pool: u64) {
        let mut ledger = self.ledger();
        let kept = ledger.pools.remove(&pool).unwrap_or_default();
        let mut in_use = 0;
        for charge in ledger.charges.values_mut().filter(|charge| charge.pool == pool) {
            (charge.pool, charge.device) = (0, kept.device);
            in_use += charge.bytes;
        }
        let of_pool = Charge { device: kept.device, ..Charge::default() };
        ledger.uncount(Charge { bytes: kept.bytes, ..of_pool });
        ledger.count(Charge { bytes: in_use, ..of_pool });
        ledger.resize(kept.bytes, in_use);
        ledger.show();
    }
}

fn allocate(command: &mut Command, run: super::rows::Run, bytes: u64, pool: Answer<u64>, stream: CUstream) -> Answer {
    let process = command.thread.process();
    let stream = process.handles.resolve(stream)?;
    let is_captured = is_captured(&process.lib, stream);
    let bytes = granules(&process, bytes);
    let call = || {
        run(command)?;
        let address = super::rows::replied(command, 0);
        Ok(if is_captured { 0 } else { address })
    };
    process.memory.allocate(&process, (pool?, stream, bytes), call)?;
    if is_captured {
        process.memory.settle_cheaply(&process);
    }
    Ok(())
}

pub(in crate::worker) fn cuMemAllocAsync(command: &mut Command, run: super::rows::Run) -> Answer {
    let mut from = command.from.clone();
    let (bytes, stream) = (from.word(), CUstream(from.word()));
    let pool = current_pool(&command.thread.process_ref().lib);
    allocate(command, run, bytes, pool, stream)
}

pub(in crate::worker) fn cuMemAllocFromPoolAsync(command: &mut Command, run: super::rows::Run) -> Answer {
    let mut from = command.from.clone();
    let (bytes, pool, stream) = (from.word(), CUmemoryPool(from.word()), CUstream(from.word()));
    let pool = command.thread.process_ref().handles.resolve(pool).map(|pool| pool.0);
    allocate(command, run, bytes, pool, stream)
}

/// A pool is asked again behind a call.
fn asked_again(command: &mut Command, run: super::rows::Run) -> Answer {
    run(command)?;
    let process = command.thread.process();
    process.memory.refresh(&process);
    Ok(())
}

pub(in crate::worker) fn cuMemPoolTrimTo(command: &mut Command, run: super::rows::Run) -> Answer {
    asked_again(command, run)
}

pub(in crate::worker) fn cuMemPoolSetAttribute(command: &mut Command, run: super::rows::Run) -> Answer {
    asked_again(command, run)
}

pub(in crate::worker) fn cuMemPoolDestroy(command: &mut Command, run: super::rows::Run) -> Answer {
    let process = command.thread.process();
    let _change = process.memory.change();
    let pool = process.handles.resolve(CUmemoryPool(command.from.clone().word()))?;
    run(command)?;
    process.memory.forget_pool(pool.0);
    Ok(())
}

/// Memory that was freed in a stream's order is its pool's until the stream
/// comes by.
pub(super) fn freed(memory: &Memory, charge: Option<Charge>) {
    if charge.is_some_and(|charge| charge.pool != 0) {
        memory.are_pools_stale.store(true, Ordering::Relaxed);
    }
}
