//! Words between a job in the guest and xtask, on a port of their own: who boots two guests tells them when to begin.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::paths;

/// Shell functions for a job: `say WORD`, and `hear`, which returns when a word has come or the host has gone.
pub(crate) const GUEST_FUNCTIONS: &str = "for port in /sys/class/virtio-ports/*; do\n\
                                          [ \"$(cat \"$port/name\" 2>/dev/null)\" = paravane.words ] && exec 4<> \"/dev/${port##*/}\"\n\
                                          done\n\
                                          say() { echo \"$1\" >&4; }\n\
                                          hear() { read -r word <&4; }\n";
const PORT: &str = "words.sock";
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What QEMU needs for it; the socket lies in `dir`.
pub(crate) fn arguments(dir: &Path, command: &mut Command) -> Result<()> {
    let socket = paths::text(&dir.join(PORT))?.replace(',', ",,");
    command.args(["-chardev", &format!("socket,id=words,path={socket},server=on,wait=off")]);
    command.args(["-device", "virtserialport,chardev=words,name=paravane.words"]);
    Ok(())
}

/// xtask's end. A guest whose host has gone hears nothing more, and ends.
pub(crate) struct Words(BufReader<UnixStream>);

impl Words {
    /// Waits until QEMU has made the socket, or is `over`.
    pub(crate) fn connect(dir: &Path, over: impl Fn() -> bool) -> Result<Self> {
        loop {
            if let Ok(stream) = UnixStream::connect(dir.join(PORT)) {
                return Ok(Self(BufReader::new(stream)));
            }
            if over() {
                bail!("QEMU ended before the guest could say anything");
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until the guest says this word.
    pub(crate) fn hear(&mut self, word: &str, limit: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let left = limit.saturating_sub(start.elapsed()).max(LOOK_AGAIN);
            self.0.get_ref().set_read_timeout(Some(left))?;
            let mut line = String::new();
            let heard = self.0.read_line(&mut line);
            match heard
                .with_context(|| format!("the guest did not say {word:?} within {} s", limit.as_secs()))?
            {
                0 => bail!("the guest ended before it said {word:?}"),
                _ if line.trim() == word => return Ok(()),
                _ => {}
            }
        }
    }

    /// Tells the guest to go on.
    pub(crate) fn say(&mut self, word: &str) -> Result<()> {
        writeln!(self.0.get_mut(), "{word}").context("the guest has ended")
    }
}
