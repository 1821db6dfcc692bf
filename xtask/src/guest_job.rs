//! The job that demonstration and tests run in a guest: install the package as its user would, then every sample as an
//! ordinary user, whose output comes back.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use crate::guest_root::USER;
use crate::payload::Payload;
use crate::samples::{self, Samples};
use crate::words;

/// A sample that hangs is ended and judged, so that the others still run. An emulated guest is slow.
const SAMPLE_LIMIT_S: u32 = 60;
/// Said by a guest that waits for its word.
pub(crate) const READY: &str = "ready";
/// The package's name in a payload.
pub(crate) const PACKAGE: &str = "paravane-guest.deb";
/// In the job's output: how long the package took, and that programs will find the library in it.
pub(crate) const INSTALLED: &str =
    "guest: programs find /usr/lib/x86_64-linux-gnu/paravane/libcuda.so.1";

/// In the job's output: how the shim's threads sleep in this guest.
pub(crate) const SLEEPS_BY: &str = "guest: threads sleep by ";

/// Programs, package and the script that runs them, with `more` files, and what the job does first.
pub(crate) fn payload_with(
    samples: &Samples,
    package: &Path,
    more: impl FnOnce(&mut Payload) -> Result<String>,
) -> Result<Payload> {
    let mut payload = Payload::new()?;
    let first = more(&mut payload)?;
    payload.file(PACKAGE, package, false)?;
    samples::pack(samples, &mut payload)?;
    payload.script("job", &(first + &install() + &samples_script()? + "exit $failed\n"))?;
    Ok(payload)
}

/// A guest that says READY, works on the first word that it hears, and ends on the next; the samples run before that if so
/// wanted. `arguments` are the load's.
pub(crate) fn payload_of_load(
    samples: &Samples,
    package: &Path,
    arguments: &[String],
    with_samples: bool,
) -> Result<Payload> {
    let mut payload = Payload::new()?;
    payload.file(PACKAGE, package, false)?;
    samples::pack(samples, &mut payload)?;
    let mut script = install();
    script.push_str(&if with_samples { samples_script()? } else { "failed=0\n".to_owned() });
    script.push_str(words::GUEST_FUNCTIONS);
    write!(
        script,
        "say {READY}\nhear\n{as_user} ./{load} {arguments} 2>&1 &\nhear\nkill -TERM $!\n\
         wait $! || {{ echo \"{load} ended with $?\"; failed=1; }}\nexit $failed\n",
        as_user = as_user(),
        load = samples::LOAD,
        arguments = arguments.join(" "),
    )?;
    payload.script("job", &script)?;
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

/// How a program is run by the guest's ordinary user.
pub(crate) fn as_user() -> String {
    format!("setpriv --reuid {USER} --regid {USER} --init-groups")
}

/// Every sample, one after the other; `$failed` says how it went.
fn samples_script() -> Result<String> {
    let (mut script, as_user) = (String::from("failed=0\n"), as_user());
    for name in samples::NAMES {
        let arguments = samples::arguments(name, samples::PICTURE_IN, "/run/results").join(" ");
        writeln!(
            script,
            "timeout {SAMPLE_LIMIT_S} {as_user} ./{name} {arguments} 2>&1 || \
             {{ echo \"{name} ended with $?\"; failed=1; }}"
        )?;
    }
    writeln!(script, "sed -n 's/.*renderD[0-9]*: \\([A-Za-z]*\\)$/{SLEEPS_BY}\\1/p' $PARAVANE_LOG | sort -u")?;
    Ok(script)
}
