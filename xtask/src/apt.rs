//! Debian packages on this machine: what is missing is installed, through sudo when not root, after saying so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// A package and a file that shows it is there, wherever it came from.
#[derive(Clone, Copy)]
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) proof: &'static str,
    pub(crate) purpose: &'static str,
}

/// What building the product and its samples takes.
pub(crate) const TO_BUILD: &[Package] = &[
    Package {
        name: "gcc",
        proof: "/usr/bin/cc",
        purpose: "links Rust and the samples",
    },
    Package {
        name: "libc6-dev",
        proof: "/usr/include/stdio.h",
        purpose: "C headers for the samples",
    },
    Package {
        name: "clang",
        proof: "/usr/bin/clang",
        purpose: "turns the samples' CUDA C into PTX",
    },
];

/// What making and booting guests takes besides.
pub(crate) const TO_BOOT: &[Package] = &[
    Package {
        name: "mmdebstrap",
        proof: "/usr/bin/mmdebstrap",
        purpose: "makes the guest's Debian 13",
    },
    Package {
        name: "e2fsprogs",
        proof: "/usr/sbin/mkfs.ext4",
        purpose: "makes the guest's disk",
    },
    Package {
        name: "xz-utils",
        proof: "/usr/bin/xz",
        purpose: "unpacks the guest kernel's modules",
    },
    Package {
        name: "dpkg",
        proof: "/usr/bin/dpkg-deb",
        purpose: "makes the guest package",
    },
];

/// What building OpenGL's renderer takes besides.
pub(crate) const TO_DRAW: &[Package] = &[
    Package {
        name: "pkgconf",
        proof: "/usr/bin/pkg-config",
        purpose: "finds virglrenderer",
    },
    Package {
        name: "glslang-tools",
        proof: "/usr/bin/glslangValidator",
        purpose: "turns the Vulkan program's shaders into SPIR-V",
    },
];

/// What Vulkan takes where this machine's own virglrenderer draws.
pub(crate) const TO_DRAW_HERE: &[Package] = &[
    Package {
        name: "libvulkan-dev",
        proof: "/usr/include/vulkan/vulkan.h",
        purpose: "builds the Vulkan program",
    },
    Package {
        name: "virgl-server",
        proof: crate::gl::RENDER_SERVER,
        purpose: "draws guests' Vulkan",
    },
];

/// What a picture of a terminal takes.
pub(crate) const TO_WRITE: &[Package] = &[Package {
    name: "fonts-dejavu-core",
    proof: crate::terminal::FONT,
    purpose: "letters for the picture of paravanectl top",
}];

/// Installs those of `packages` that are missing; answers what it installed.
pub(crate) fn ensure(packages: &[Package]) -> Result<Vec<&'static str>> {
    let missing: Vec<&Package> = packages
        .iter()
        .filter(|package| !Path::new(package.proof).exists())
        .collect();
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    if names.is_empty() {
        return Ok(names);
    }
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "this machine has no apt-get: install what gives {}",
            proofs(&missing)
        );
    }
    eprintln!(
        "        missing here, so apt installs them{}:",
        if is_root() { "" } else { " through sudo" }
    );
    for package in &missing {
        eprintln!("          {}: {}", package.name, package.purpose);
    }
    if install(&names).is_err() {
        // The lists may be missing or old: fetch them, then let the second failure speak.
        process::run("apt-update", as_root("apt-get")?.arg("update"))?;
        install(&names).with_context(|| format!("cannot install {}", names.join(", ")))?;
    }
    Ok(names)
}

fn install(names: &[&str]) -> Result<()> {
    let mut command = as_root("env")?;
    command.args([
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "install",
        "--yes",
        "--no-install-recommends",
    ]);
    process::run("apt-install", command.args(names))
}

fn proofs(missing: &[&Package]) -> String {
    missing
        .iter()
        .map(|package| package.proof)
        .collect::<Vec<_>>()
        .join(", ")
}

/// `program` with root's rights: itself for root, else through sudo.
pub(crate) fn as_root(program: &str) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    if !Path::new("/usr/bin/sudo").exists() {
        bail!("{program} needs root, and this machine has no sudo: run as root");
    }
    eprintln!("        through sudo: {program}");
    let mut command = Command::new("sudo");
    command.arg(program);
    Ok(command)
}

pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Fetches a package of another release into `dir`, by lists of that release's own there; nothing of this machine's apt changes.
pub(crate) fn download(suite: &str, name: &str, dir: &Path) -> Result<PathBuf> {
    let own = dir.join("apt");
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(own.join(folder))?;
    }
    let sources = own.join("sources.list");
    fs::write(&sources, format!("deb {} {suite} main\n", archive()?))?;
    let at = |option: &str, path: &Path| format!("-o{option}={}", path.display());
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.arg(at("Dir::Etc::sourcelist", &sources)).arg(at("Dir::State::lists", &own.join("lists")));
        apt.arg(at("Dir::Cache", &own.join("cache"))).args(["-oDir::Etc::sourceparts=-", "-oDir::State::status=/dev/null"]);
        // The folder is this user's, whoever apt would rather be.
        apt.arg(format!("-oAPT::Sandbox::User={}", if is_root() { "root" } else { "" })).current_dir(dir);
        apt
    };
    process::run("apt-lists", apt().arg("update"))?;
    process::run("apt-download", apt().args(["download", name]))?;
    fs::remove_dir_all(&own)?;
    let found = fs::read_dir(dir)?.filter_map(|file| Some(file.ok()?.path()));
    let package = found.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    package.with_context(|| format!("apt fetched no package {name}"))
}

/// The Debian archive that this machine installs from, so that a local mirror serves guests too. `PARAVANE_DEBIAN_MIRROR`
/// overrides it.
pub(crate) fn archive() -> Result<String> {
    if let Ok(mirror) = std::env::var("PARAVANE_DEBIAN_MIRROR") {
        return Ok(mirror);
    }
    let mut command = Command::new("apt-get");
    command.args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
        "Origin: Debian",
    ]);
    let listed = process::output(&mut command)?;
    let archive = listed
        .lines()
        .find(|uri| uri.starts_with("http") && !uri.contains("security"));
    archive.map(str::to_owned).context(
        "apt knows no Debian archive on this machine: set PARAVANE_DEBIAN_MIRROR to the address of one, as sources.list has it",
    )
}
