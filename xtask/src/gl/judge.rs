//! What the guest's drawing came to.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::{STAGES, job};
use crate::boot::Outcome;
use crate::machine::FrontEnd;
use crate::test::framebuffer;
use crate::test::report::Check;
use crate::usage::Usage;
use crate::{picture, samples, table};

/// A channel of a pixel may differ by so much: drivers round differently.
const CHANNEL_OFF_MAX: u8 = 3;
/// And of so many thousandths of the pixels by any amount: edges fall one way or the other.
const PIXELS_OFF_MAX: usize = 5;
/// Two boots on one device differ by so much too.
const NOT_SLOWER: f64 = 0.97;
/// A VM's account has what its renderers drew for the scene's program under this name.
const DRAWS: &str = "OpenGL: off_screen";

pub(super) struct Verdict {
    /// What each check found, or what is wrong.
    checks: Vec<(&'static str, Result<String>)>,
    /// Frames a second of each stage, by the columns of the table.
    marks: Vec<(&'static str, [Option<f64>; 4])>,
}

impl Verdict {
    pub(super) fn of(outcome: &Outcome, usage: &Usage, here: &Path, front_end: FrontEnd) -> Self {
        let (output, results) = (&outcome.output[..], &outcome.results);
        let picture = |name: &str| results.join(name).with_extension("ppm");
        let mut checks = vec![
            ("eglinfo", renderer(output, "eglinfo: renderer ")),
            ("a program", renderer(output, "scene: renderer ")),
            ("the scene, beside the host's", compare(&picture(job::SCENE), here)),
            ("occlusion queries", queries(output)),
        ];
        // Without QEMU's own vhost-user GPU there is no screen.
        if front_end == FrontEnd::VhostUserGpu {
            checks.push(("the console on QEMU's screen", console(outcome)));
            let shown = results.join(job::SHOWN).with_extension("png");
            let drawn = renderer(output, "on_screen: renderer ").and_then(|_| near(&shown, &to_png(&picture(job::UNSHOWN))?));
            checks.push(("the scene on QEMU's screen, beside the same drawn without a window", drawn));
        }
        checks.push(("scenes while CUDA runs", scenes(output, usage, DRAWS)));
        checks.push(("CUDA while scenes are drawn", cuda(output, usage)));
        let (host, guest) = output.split_once("glmark2: in the guest").unwrap_or((output, ""));
        let marks = STAGES.iter().map(|stage| (*stage, [frames(host, stage), frames(guest, stage), None, None])).collect();
        Self { checks, marks }
    }

    /// Nothing yet.
    pub(super) fn empty() -> Self {
        Self { checks: Vec::new(), marks: STAGES.iter().map(|stage| (*stage, [None; 4])).collect() }
    }

    /// Nothing but the comparison with vhost-device-gpu.
    pub(super) fn compared(said: &[[String; 2]]) -> Self {
        let mut verdict = Self::empty();
        verdict.compare(said);
        verdict
    }

    /// The medians of what was said in boots of this and of the other device.
    pub(super) fn compare(&mut self, said: &[[String; 2]]) {
        for (stage, marks) in &mut self.marks {
            let median = |side: usize| median(said.iter().filter_map(|pair| frames(pair.get(side)?, stage)).collect());
            (marks[2], marks[3]) = (median(0), median(1));
        }
        let found = not_slower(said);
        self.add("no stage slower than on vhost-device-gpu", found);
    }

    /// Another check.
    pub(super) fn add(&mut self, name: &'static str, found: Result<String>) {
        self.checks.push((name, found));
    }

    pub(super) fn print(&self) {
        for (name, found) in &self.checks {
            match found {
                Ok(found) => println!("PASS {name}: {found}"),
                Err(error) => println!("FAIL {name}: {error:#}"),
            }
        }
        if self.marks.iter().all(|(_, marks)| marks.iter().all(Option::is_none)) {
            return;
        }
        let row = |(stage, marks): &(&str, [Option<f64>; 4])| {
            std::iter::once((*stage).to_owned()).chain(marks.iter().copied().map(shown)).collect()
        };
        let rows: Vec<_> = self.marks.iter().map(row).collect();
        let head = ["glmark2, frames a second", "virgl", "llvmpipe in the guest", "virgl, QEMU 10", "vhost-device-gpu, QEMU 10"];
        println!("\n{}", table::table(&head, &rows));
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        if self.checks.iter().all(|(_, found)| found.is_ok()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Frames a second by what glmark2 says of a stage: `[build] duration=5: FPS: 35 FrameTime: 28.571 ms`. The time is the more
/// exact figure.
pub(super) fn frames(output: &str, stage: &str) -> Option<f64> {
    let start = format!("[{stage}]");
    let line = output.lines().find(|line| line.trim_start().starts_with(&start))?;
    let milliseconds: f64 = line.split("FrameTime:").nth(1)?.split_whitespace().next()?.parse().ok()?;
    (milliseconds > 0.0).then(|| 1e3 / milliseconds)
}

fn shown(frames: Option<f64>) -> String {
    frames.map_or_else(|| "-".to_owned(), |frames| format!("{frames:.1}"))
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let [lower, upper] = [figures.len().checked_sub(1)? / 2, figures.len() / 2].map(|at| figures.get(at));
    Some((lower? + upper?) / 2.0)
}

/// Frames a second of all stages in their order.
pub(super) fn marks(output: &str) -> String {
    STAGES.iter().map(|stage| shown(frames(output, stage))).collect::<Vec<_>>().join(" / ")
}

/// What a line of the guest's says that it draws with: virgl, or it draws by itself.
pub(super) fn renderer(output: &str, line: &'static str) -> Result<String> {
    match output.lines().find_map(|said| said.strip_prefix(line)) {
        Some(said) if said.starts_with("virgl") => Ok(said.to_owned()),
        Some(said) => bail!("the renderer is {said}"),
        None => bail!("not in the guest's output: {line}\n{output}"),
    }
}

/// `queries: 60 of 60 are right`.
fn queries(output: &str) -> Result<String> {
    let said = output.lines().find_map(|said| said.strip_prefix("queries: ")?.strip_suffix(" are right"));
    match said.and_then(|said| said.split_once(" of ")) {
        Some((right, all)) if right == all => Ok(format!("all {all} are right")),
        _ => bail!("not all are right:\n{output}"),
    }
}

fn console(outcome: &Outcome) -> Result<String> {
    let mut check = Check::default();
    framebuffer::judge(&mut check, outcome);
    if check.failed > 0 {
        bail!(check.notes.join("; "));
    }
    Ok("every pixel as the guest's framebuffer has it".to_owned())
}

/// Every scene that was drawn while CUDA ran is the one that was drawn alone, and `draws` in the account has the time.
pub(super) fn scenes(output: &str, usage: &Usage, draws: &str) -> Result<String> {
    let said = output.lines().find_map(|line| line.strip_prefix(job::BESIDE)).context("the guest does not say")?;
    let (drawn, wrong) = said.split_once(", wrong ").context("the guest says it in other words")?;
    if wrong.trim() != "0" {
        bail!("{wrong} of {drawn} differ");
    }
    let charged = usage.gpu_time(draws);
    if charged.is_zero() {
        bail!("{draws} is charged no GPU time");
    }
    Ok(format!("{drawn}, each equal to the one drawn alone; all of {draws} charged: {charged:.1?}"))
}

/// CUDA's samples are right and in the account.
pub(super) fn cuda(output: &str, usage: &Usage) -> Result<String> {
    let verdicts = samples::verdicts(output);
    let failed: Vec<String> =
        verdicts.iter().filter(|verdict| !verdict.passed).map(|verdict| format!("{}: {}", verdict.name, verdict.note)).collect();
    if !failed.is_empty() {
        bail!(failed.join("; "));
    }
    let charged: Vec<_> = samples::NAMES.iter().map(|name| (*name, usage.gpu_time(name))).collect();
    if let Some((name, _)) = charged.iter().find(|(_, time)| time.is_zero()) {
        bail!("{name} is charged no GPU time");
    }
    let charged: Vec<String> = charged.iter().map(|(name, time)| format!("{name} {time:.1?}")).collect();
    Ok(format!("right, and charged: {}", charged.join(", ")))
}

/// In pairs of boots that took turns, by the median of their ratios.
fn not_slower(said: &[[String; 2]]) -> Result<String> {
    let ratio = |[ours, other]: &[String; 2], stage: &str| Some(frames(ours, stage)? / frames(other, stage)?);
    let (mut text, mut slower) = (Vec::new(), false);
    for stage in STAGES {
        let ratios: Vec<f64> = said.iter().filter_map(|pair| ratio(pair, stage)).collect();
        if ratios.len() < said.len() {
            bail!("a figure for {stage} is missing");
        }
        let ratio = median(ratios).context("no boot")?;
        text.push(format!("{stage} {:.1} %", 100.0 * ratio));
        slower |= ratio < NOT_SLOWER;
    }
    let text = format!("of its frames: {}", text.join(", "));
    if slower {
        bail!(text);
    }
    Ok(text)
}

fn to_png(ppm: &Path) -> Result<PathBuf> {
    let png = ppm.with_extension("png");
    picture::ppm_to_png(ppm, &png)?;
    Ok(png)
}

/// Whether a picture of the guest's is near the one that was drawn here; how near.
pub(super) fn compare(drawn: &Path, here: &Path) -> Result<String> {
    near(&to_png(drawn).context("the guest's picture")?, &here.with_extension("png"))
}

/// Whether two pictures, as PNG, differ within what is allowed; how they do.
fn near(shown: &Path, expected: &Path) -> Result<String> {
    let (width, height, pixels) = picture::read_png(shown)?;
    let (_, _, wanted) = picture::read_png(expected)?;
    if pixels.len() != wanted.len() {
        bail!("{} is {width} by {height}", shown.display());
    }
    let (pixels, _) = pixels.as_chunks::<3>();
    let (wanted, _) = wanted.as_chunks::<3>();
    if pixels.iter().all(|pixel| Some(pixel) == pixels.first()) {
        bail!("{} has one colour", shown.display());
    }
    let off = |(one, other): (&[u8; 3], &[u8; 3])| one.iter().zip(other).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
    let differences: Vec<u8> = pixels.iter().zip(wanted).map(off).collect();
    let beyond = differences.iter().filter(|off| **off > CHANNEL_OFF_MAX).count();
    let said = format!(
        "{beyond} of {} pixels differ by more than {CHANNEL_OFF_MAX}, at most by {}",
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
        let said = ["build", "texture", "shading"].map(|stage| frames(output, stage));
        assert_eq!(said, [Some(1e3 / 28.5), Some(1e3), None]);
    }

    #[test]
    fn slower_is_by_pairs() {
        let said = |ms: f64| STAGES.iter().fold(String::new(), |all, stage| format!("{all}[{stage}] FPS: 1 FrameTime: {ms} ms\n"));
        let pair = |ours, other| [said(ours), said(other)];
        assert!(not_slower(&[pair(10.0, 10.2), pair(30.0, 29.5), pair(20.0, 10.0)]).is_ok());
        assert!(not_slower(&[pair(10.0, 9.0), pair(30.0, 28.0), pair(10.0, 20.0)]).is_err());
        assert!(not_slower(&[pair(10.0, 9.0), pair(10.0, 11.0)]).is_ok(), "between both");
        assert!(not_slower(&[pair(10.0, 10.0), [said(10.0), String::new()]]).is_err());
    }
}
