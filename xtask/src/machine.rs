//! The machines that tests boot: the very files in `qemu-configs/qemu` that an operator copies, with the socket's path put
//! in, and two machines without Paravane.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::paths;

/// The path that the files have.
const SOCKET: &str = "/run/paravane/vm0.sock";

/// How the virtio-gpu device comes to the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum FrontEnd {
    /// QEMU's vhost-user-gpu-pci: VIRGL and EDID.
    VhostUserGpu,
    /// QEMU's generic vhost-user device: every feature.
    VhostUserTestDevice,
    /// Ring features only, as Cloud Hypervisor negotiates.
    RingOnly,
    /// QEMU's own virtio-gpu, without Paravane: the shim must say that there is no device.
    #[value(skip)]
    Foreign,
    /// No GPU at all.
    #[value(skip)]
    Nothing,
}

impl FrontEnd {
    pub(crate) fn name(self) -> &'static str {
        match self {
            FrontEnd::VhostUserGpu => "vhost-user-gpu",
            FrontEnd::VhostUserTestDevice => "vhost-user-test-device",
            FrontEnd::RingOnly => "ring-only",
            FrontEnd::Foreign => "foreign",
            FrontEnd::Nothing => "nothing",
        }
    }

    /// What paravane-backend is started with beside its socket.
    pub(crate) fn backend_arguments(self) -> &'static [&'static str] {
        if self == FrontEnd::RingOnly {
            &["--no-3d"]
        } else {
            &[]
        }
    }

    /// How the shim says that it sleeps there: the best that the features allow.
    pub(crate) fn sleep(self) -> &'static str {
        match self {
            FrontEnd::VhostUserGpu => "SharedTimeline",
            FrontEnd::VhostUserTestDevice => "OwnTimeline",
            FrontEnd::RingOnly => "Poll",
            FrontEnd::Foreign | FrontEnd::Nothing => "",
        }
    }

    /// The machine as a file for QEMU's -readconfig.
    pub(crate) fn config(self, socket: Option<&Path>) -> Result<String> {
        let name = match self {
            FrontEnd::Foreign | FrontEnd::Nothing => FrontEnd::VhostUserGpu.name(),
            _ => self.name(),
        };
        let path = paths::root()
            .join("qemu-configs/qemu")
            .join(format!("{name}.cfg"));
        let config =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let Some((machine, _)) = config.split_once("[chardev \"paravane\"]") else {
            bail!("{} has no chardev called paravane", path.display());
        };
        Ok(match (self, socket) {
            (FrontEnd::Nothing, _) => machine.to_owned(),
            (FrontEnd::Foreign, _) => {
                format!("{machine}[device \"gpu\"]\n  driver = \"virtio-gpu-pci\"\n")
            }
            (_, Some(socket)) => config.replace(SOCKET, paths::text(socket)?),
            (_, None) => bail!("the machine {name} needs the socket of a back end"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_file_names_the_socket_once_outside_its_comments() {
        for front_end in [
            FrontEnd::VhostUserGpu,
            FrontEnd::VhostUserTestDevice,
            FrontEnd::RingOnly,
        ] {
            let config = front_end
                .config(Some(Path::new("/somewhere/else")))
                .unwrap();
            let lines = config.lines().filter(|line| !line.starts_with('#'));
            assert_eq!(
                lines
                    .filter(|line| line.contains("path = \"/somewhere/else\""))
                    .count(),
                1,
                "{front_end:?}"
            );
        }
    }

    #[test]
    fn a_machine_without_paravane_has_no_chardev() {
        for front_end in [FrontEnd::Foreign, FrontEnd::Nothing] {
            let config = front_end.config(None).unwrap();
            assert!(
                config.contains("memory-backend-memfd") && !config.contains("chardev"),
                "{config}"
            );
        }
    }
}
