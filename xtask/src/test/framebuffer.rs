//! The guest's framebuffer on QEMU's screen: its text console, pixel for pixel as the guest has it, and a picture in which
//! every colour channel and every edge can be told apart.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::report::Check;
use crate::boot::Outcome;
use crate::payload::Payload;
use crate::{picture, screen};

/// The mode that QEMU's vhost-user-gpu-pci asks for where nobody looks; the device's own would be 1024 by 768.
const WIDTH: usize = 1280;
const HEIGHT: usize = 800;
const MODE: &str = "guest: screen 1280,800";

/// Files for the job, and what it does before the samples.
pub(crate) fn pack(payload: &mut Payload) -> Result<String> {
    payload.bytes("pattern.fb", &pattern())?;
    Ok(format!(
        "{}echo \"guest: screen $(cat /sys/class/graphics/fb0/virtual_size)\"\n\
         printf '\\033[?25l\\033[2J\\033[HThis is the console of a guest of Paravane.\\n' > /dev/tty1\n\
         screen console; cat /dev/fb0 > /run/results/console.fb\n\
         cat pattern.fb > /dev/fb0; screen pattern\n",
        screen::GUEST_FUNCTIONS
    ))
}

/// Blue, green, red and a byte that is not shown, as DRM's XRGB8888 has them.
fn pattern() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(WIDTH * HEIGHT * 4);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let low = |value: usize| u8::try_from(value & 0xff).unwrap_or(0);
            bytes.extend([low(x), low(y), low((x >> 8) * 40 + (y >> 8) * 10), 0]);
        }
    }
    bytes
}

/// Compares what QEMU showed with what the guest drew.
pub(crate) fn judge(check: &mut Check, outcome: &Outcome) {
    let mode = outcome.output.lines().any(|line| line.trim() == MODE);
    check.require(mode, || format!("not in the guest's output: {MODE}"));
    let shown = |name: &str| outcome.results.join(format!("{name}.png"));
    let console = fs::read(outcome.results.join("console.fb")).context("the guest's framebuffer");
    let console = console.and_then(|drawn| {
        let lit = drawn.chunks(4).filter(|pixel| pixel.iter().take(3).any(|byte| *byte > 0)).count();
        if lit < 500 {
            bail!("only {lit} pixels of the console are lit");
        }
        same(&shown("console"), &drawn)
    });
    check.require_ok(console.context("the guest's console"));
    check.require_ok(same(&shown("pattern"), &pattern()).context("the pattern"));
}

/// Whether a PNG has the pixels of a framebuffer.
fn same(shown: &Path, drawn: &[u8]) -> Result<()> {
    let (width, height, shown) = picture::read_png(shown)?;
    if (width, height) != (WIDTH, HEIGHT) {
        bail!("the screen is {width} by {height}");
    }
    let (shown, _) = shown.as_chunks::<3>();
    let (drawn, _) = drawn.as_chunks::<4>();
    if shown.len() != drawn.len() {
        bail!("{} pixels are shown of {}", shown.len(), drawn.len());
    }
    let differs = |([red, green, blue], [b, g, r, _]): &(&[u8; 3], &[u8; 4])| (red, green, blue) != (r, g, b);
    let wrong = shown.iter().zip(drawn).enumerate().find(|(_, pair)| differs(pair));
    if let Some((at, (shown, drawn))) = wrong {
        bail!("column {}, row {}: shown {shown:?}, drawn {drawn:?}", at % WIDTH, at / WIDTH);
    }
    Ok(())
}
