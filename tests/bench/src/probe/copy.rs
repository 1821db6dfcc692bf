//! Copies between the program's memory and the device's, as a program makes
//! them: synchronous, one buffer, sizes from a page to a gibibyte.

use anyhow::{Result, ensure};

use crate::cuda::{Cuda, Session};
use crate::figure::{Figure, unit};
use crate::stats::seconds;

/// The sizes that are shown.
pub(crate) fn sizes(quick: bool) -> &'static [usize] {
    const SIZES: [usize; 6] = [4 << 10, 64 << 10, 1 << 20, 16 << 20, 256 << 20, 1 << 30];
    if quick { &SIZES[..4] } else { &SIZES }
}

/// How often a copy of this size is timed: a gibibyte in all, within bounds.
pub(crate) fn rounds(bytes: usize, quick: bool) -> u32 {
    let most = if quick { 50 } else { 1_000 };
    let rounds = (1_usize << 30) / bytes;
    u32::try_from(rounds).unwrap_or(most).clamp(5, most)
}

/// A size in words: "64 KiB".
pub(crate) fn size_name(bytes: usize) -> String {
    match bytes {
        0x4000_0000.. => format!("{} GiB", bytes >> 30),
        0x10_0000.. => format!("{} MiB", bytes >> 20),
        _ => format!("{} KiB", bytes >> 10),
    }
}

pub(crate) fn run(cuda: &Cuda, quick: bool) -> Result<()> {
    cuda.init()?;
    let session = cuda.session()?;
    for bytes in sizes(quick).iter().copied() {
        let device = session.alloc(bytes)?;
        let mut pageable = vec![3_u8; bytes];
        both_ways(&session, device, &mut pageable, "pageable", quick)?;
        drop(pageable);
        let pinned = session.host_alloc(bytes)?;
        pinned.fill(5);
        both_ways(&session, device, pinned, "pinned", quick)?;
        session.host_free(pinned)?;
        session.free(device)?;
    }
    Ok(())
}

fn both_ways(session: &Session, device: u64, memory: &mut [u8], kind: &str, quick: bool) -> Result<()> {
    let bytes = memory.len();
    let size = size_name(bytes);
    let rounds = rounds(bytes, quick);
    let rate = |seconds: f64| bytes as f64 / seconds / 1e9;
    let written = seconds(rounds, || session.copy_in(device, memory))?;
    Figure::new(format!("{kind} to device, {size}"), rate(written), unit::GB_PER_S).tell();
    let sent = memory.first().copied();
    memory.fill(0);
    let read = seconds(rounds, || session.copy_out(memory, device))?;
    ensure!(memory.last().copied() == sent, "a copy of {size} came back changed");
    Figure::new(format!("{kind} from device, {size}"), rate(read), unit::GB_PER_S).tell();
    Ok(())
}
