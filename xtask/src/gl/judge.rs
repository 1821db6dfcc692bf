//! What the guest's drawing came to.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::STAGES;
use crate::{picture, table};

/// A channel of a pixel may differ by so much: drivers round differently.
const CHANNEL_OFF_MAX: u8 = 3;
/// And of so many thousandths of the pixels by any amount: edges fall one way or the other.
const PIXELS_OFF_MAX: usize = 5;

pub(super) struct Verdict {
    /// What each check found, or what is wrong.
    checks: Vec<(&'static str, Result<String>)>,
    /// Frames a second: stage, on the host, in the guest.
    marks: Vec<(&'static str, Option<u32>, Option<u32>)>,
}

impl Verdict {
    pub(super) fn of(output: &str, results: &Path, here: &Path) -> Result<Self> {
        let renderer = |line: &'static str| {
            let said = output.lines().find_map(|said| said.strip_prefix(line));
            match said {
                Some(said) if said.starts_with("virgl") => Ok(said.to_owned()),
                Some(said) => bail!("the renderer is {said}"),
                None => bail!("not in the guest's output: {line}\n{output}"),
            }
        };
        let drawn = results.join("scene.ppm");
        let checks = vec![
            ("eglinfo", renderer("eglinfo: renderer ")),
            ("a program", renderer("scene: renderer ")),
            ("the scene", compare(&drawn, here, results)),
        ];
        let (host, guest) = output.split_once("glmark2: in the guest").unwrap_or((output, ""));
        let marks = STAGES.iter().map(|stage| (*stage, frames(host, stage), frames(guest, stage)));
        Ok(Self { checks, marks: marks.collect() })
    }

    pub(super) fn print(&self) {
        for (name, found) in &self.checks {
            match found {
                Ok(found) => println!("PASS {name}: {found}"),
                Err(error) => println!("FAIL {name}: {error:#}"),
            }
        }
        let shown = |frames: &Option<u32>| frames.map_or_else(|| "-".to_owned(), |frames| frames.to_string());
        let row = |(stage, host, guest): &(&str, _, _)| vec![(*stage).to_owned(), shown(host), shown(guest)];
        let rows: Vec<_> = self.marks.iter().map(row).collect();
        println!("\n{}", table::table(&["glmark2, frames a second", "virgl", "llvmpipe in the guest"], &rows));
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        if self.checks.iter().all(|(_, found)| found.is_ok()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// `[build] duration=5: FPS: 35 FrameTime: 28.571 ms`, as glmark2 says it.
fn frames(output: &str, stage: &str) -> Option<u32> {
    let start = format!("[{stage}]");
    let line = output.lines().find(|line| line.trim_start().starts_with(&start))?;
    line.split("FPS:").nth(1)?.split_whitespace().next()?.parse().ok()
}

fn compare(drawn: &Path, here: &Path, results: &Path) -> Result<String> {
    let (shown, expected) = (results.join("scene.png"), here.with_extension("png"));
    picture::ppm_to_png(drawn, &shown).context("the guest's picture")?;
    let (width, height, pixels) = picture::read_png(&shown)?;
    let (_, _, wanted) = picture::read_png(&expected)?;
    if pixels.len() != wanted.len() {
        bail!("the guest's picture is {width} by {height}");
    }
    let (pixels, _) = pixels.as_chunks::<3>();
    let (wanted, _) = wanted.as_chunks::<3>();
    if pixels.iter().all(|pixel| Some(pixel) == pixels.first()) {
        bail!("the guest's picture has one colour");
    }
    let off = |(one, other): (&[u8; 3], &[u8; 3])| one.iter().zip(other).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
    let differences: Vec<u8> = pixels.iter().zip(wanted).map(off).collect();
    let beyond = differences.iter().filter(|off| **off > CHANNEL_OFF_MAX).count();
    let said = format!(
        "{beyond} of {} pixels differ from the host's by more than {CHANNEL_OFF_MAX}, at most by {}",
        pixels.len(),
        differences.iter().max().unwrap_or(&0)
    );
    if beyond * 1000 > pixels.len() * PIXELS_OFF_MAX {
        bail!(said);
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_from_glmarks_line() {
        let output = "  [texture] duration=5: FPS: 7 FrameTime: 1 ms\n [build] duration=5:use-vbo=false: FPS: 35 FrameTime: 28.5 ms\n";
        assert_eq!(frames(output, "build"), Some(35));
        assert_eq!(frames(output, "shading"), None);
    }
}
