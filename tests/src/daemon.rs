//! A real `paravaned` for a test, and what `paravanectl` says of it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::backend::{eventually, executable};

/// A running paravaned. Dropping it kills it.
pub struct Daemon {
    child: Child,
    folder: TempDir,
}

fn spawn(folder: &TempDir) -> Child {
    let mut command = Command::new(executable().with_file_name("paravaned"));
    command.arg("--config").arg(folder.path().join("paravaned.toml")).stdin(Stdio::null()).args(["--log-level", "warn"]);
    let child = command.spawn().unwrap();
    let control = folder.path().join("control.sock");
    eventually("paravaned listens", || UnixStream::connect(&control).is_ok());
    child
}

impl Daemon {
    /// Starts one with these lines in its file besides its paths.
    pub fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "[registration]\nsocket = {:?}\n[control]\nsocket = {:?}\n[ledger]\npath = {:?}\nresolution_s = 1\n{settings}\n",
            at("paravaned.sock"),
            at("control.sock"),
            at("ledger.db"),
        );
        fs::write(folder.path().join("paravaned.toml"), config).unwrap();
        Self { child: spawn(&folder), folder }
    }

    /// Where back ends register.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("paravaned.sock")
    }

    /// Its settings.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("paravaned.toml")
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again.
    pub fn restart(&mut self) {
        self.child = spawn(&self.folder);
    }

    /// Runs paravanectl with the words of a line.
    pub fn ctl(&self, line: &str) -> Output {
        let mut command = Command::new(executable().with_file_name("paravanectl"));
        command.arg("--socket").arg(self.folder.path().join("control.sock")).args(line.split_whitespace());
        command.output().unwrap()
    }

    /// What paravanectl prints; it must succeed.
    #[track_caller]
    pub fn said(&self, line: &str) -> String {
        let output = self.ctl(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it says against a line; it must fail.
    #[track_caller]
    pub fn refused(&self, line: &str) -> String {
        let output = self.ctl(line);
        assert!(!output.status.success(), "{line} was done");
        String::from_utf8(output.stderr).unwrap()
    }

    /// The same as JSON.
    #[track_caller]
    pub fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.said(&format!("-o json {line}"))).unwrap()
    }

    /// The ledger's lines.
    pub fn usage(&self, line: &str) -> Vec<Value> {
        self.json(&format!("usage {line}"))["usage"].as_array().unwrap().clone()
    }

    /// The VMs that are registered, by name.
    pub fn vms(&self) -> Vec<Value> {
        self.json("list")["vms"].as_array().cloned().unwrap_or_default()
    }

    /// One of them.
    pub fn vm(&self, name: &str) -> Option<Value> {
        self.vms().into_iter().find(|vm| vm["name"] == name)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended; both then fail, and nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
