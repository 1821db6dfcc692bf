//! The job that demonstration and tests run in a guest: install the package as its user would, then every sample as an
//! ordinary user, whose output comes back.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use crate::guest_root::USER;
use crate::payload::Payload;
use crate::samples::{self, Samples};

/// A sample that hangs is ended and judged, so that the others still run. An emulated guest is slow.
const SAMPLE_LIMIT_S: u32 = 60;
/// The package's name in a payload.
pub(crate) const PACKAGE: &str = "paravane-guest.deb";
/// In the job's output: how long the package took, and that programs will find the library in it.
pub(crate) const INSTALLED: &str =
    "guest: programs find /usr/lib/x86_64-linux-gnu/paravane/libcuda.so.1";

/// In the job's output: how the shim's threads sleep in this guest.
pub(crate) const SLEEPS_BY: &str = "guest: threads sleep by ";

/// Programs, package and the script that runs them.
pub(crate) fn payload(samples: &Samples, package: &Path) -> Result<Payload> {
    payload_with(samples, package, |_| Ok(String::new()))
}

/// The same, with `more` files, and what the job does first.
pub(crate) fn payload_with(
    samples: &Samples,
    package: &Path,
    more: impl FnOnce(&mut Payload) -> Result<String>,
) -> Result<Payload> {
    let mut payload = Payload::new()?;
    let first = more(&mut payload)?;
    payload.file(PACKAGE, package, false)?;
    samples::pack(samples, &mut payload)?;
    payload.script("job", &(first + &script()?))?;
    Ok(payload)
}

/// The beginning of a job: the package is installed, and programs' shim writes its log to $PARAVANE_LOG.
pub(crate) fn install() -> String {
    format!(
        "dpkg -i {PACKAGE} > /run/dpkg.log 2>&1 || {{ cat /run/dpkg.log; exit 1; }}\n\
         ldconfig -p | sed -n 's/.*libcuda.so.1 .* => /guest: programs find /p'\n\
         ls -l /dev/dri/renderD* 2>&1\n\
         chown {USER} /run/results\n\
         export PARAVANE_LOG=/run/paravane-shim.log PARAVANE_LOG_LEVEL=info\n\
         touch $PARAVANE_LOG; chown {USER} $PARAVANE_LOG\n"
    )
}

fn script() -> Result<String> {
    let mut script = install();
    script.push_str("failed=0\n");
    for name in samples::NAMES {
        let arguments = samples::arguments(name, samples::PICTURE_IN, "/run/results").join(" ");
        writeln!(
            script,
            "timeout {SAMPLE_LIMIT_S} setpriv --reuid {USER} --regid {USER} --init-groups ./{name} {arguments} 2>&1 || \
             {{ echo \"{name} ended with $?\"; failed=1; }}"
        )?;
    }
    writeln!(script, "sed -n 's/.*renderD[0-9]*: \\([A-Za-z]*\\)$/{SLEEPS_BY}\\1/p' $PARAVANE_LOG | sort -u")?;
    script.push_str("exit $failed\n");
    Ok(script)
}
