//! A framework's mix of calls: 74 of 100 ask what the guest knows itself, the
//! rest launch, copy and synchronise. Beside it the same mix with every call
//! awaited: what the questions would cost if each went to the host and back.

use std::time::Instant;

use anyhow::Result;

use crate::cuda::{Cuda, Session};
use crate::figure::{Figure, unit};
use crate::stats::median;

/// In a hundred calls: questions, launches and copies; one synchronise ends them.
const QUESTIONS: usize = 74;
const LAUNCHES: usize = 20;
const COPIES: usize = 5;
const COPY_BYTES: usize = 4096;

/// The shim's switch that awaits every call it would post.
pub(crate) const AWAIT_ALL: &str = "PARAVANE_SYNC";

pub(crate) fn run(cuda: &Cuda, quick: bool, awaited: bool) -> Result<()> {
    cuda.init()?;
    let session = cuda.session()?;
    let device = session.alloc(COPY_BYTES)?;
    let data = vec![7; COPY_BYTES];
    let hundred = || {
        let mut asked = 0;
        for step in 0..LAUNCHES + COPIES {
            // Questions come in runs, as a framework asks before each operation.
            let due = QUESTIONS * (step + 1) / (LAUNCHES + COPIES);
            (asked..due).try_for_each(|number| question(&session, number, awaited))?;
            asked = due;
            if step % (LAUNCHES / COPIES + 1) == 0 {
                session.copy_in_async(device, &data)?;
            } else {
                session.launch()?;
            }
        }
        session.synchronize()
    };
    let rounds = if quick { 300 } else { 3_000 };
    let mut samples = Vec::new();
    for round in 0..rounds + rounds / 10 {
        let begun = Instant::now();
        hundred()?;
        if round >= rounds / 10 {
            samples.push(begun.elapsed().as_secs_f64() * 1e6);
        }
    }
    Figure::new("a framework's hundred calls", median(&mut samples), unit::US).tell();
    Ok(())
}

fn question(session: &Session, number: usize, awaited: bool) -> Result<()> {
    if awaited {
        return session.awaited().map(drop);
    }
    match number % 4 {
        0 => session.current_device(),
        1 => session.attribute(),
        2 => session.primary_state(),
        _ => session.current_context(),
    }
}
