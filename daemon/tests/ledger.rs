//! A writer of the ledger that is killed at any moment: what it said to be booked is booked, once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use paravane_daemon::counters::Counters;
use paravane_daemon::ledger::{By, Entry, Interval, Key, Ledger};

const LEDGER: &str = "PARAVANE_TEST_LEDGER";

fn entry(kernels: u64) -> Entry {
    let mut counters = Counters::default();
    counters.set("kernels", kernels);
    let key = Key { boot: "b".into(), number: 1 };
    Entry {
        key,
        vm: "a".into(),
        uuid: String::new(),
        pid: 1,
        name: "p".into(),
        counters,
        on_devices: Default::default(),
        memory_bytes: 0,
        memory_peak_bytes: 0,
        ended: false,
    }
}

fn booked(path: &Path) -> u64 {
    let ledger = Ledger::open(path, 1).unwrap();
    let rows = ledger.reader().unwrap().usage(None, Interval { from_s: 0, to_s: u64::MAX }, By::Vm).unwrap();
    rows.first().map_or(0, |row| row.used.get("kernels"))
}

/// The writer: counts on from what is booked and says each sum once it is.
fn write(path: &Path) {
    let first = booked(path) + 1;
    let mut ledger = Ledger::open(path, 1).unwrap();
    for sum in first.. {
        ledger.book(1000 + sum / 50, &[entry(sum)]).unwrap();
        println!("\nbooked {sum}");
    }
}

#[test]
fn a_killed_writer_loses_at_most_what_it_has_not_said() {
    // In its own child the test is the writer.
    if let Some(path) = std::env::var_os(LEDGER) {
        return write(Path::new(&path));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let mut before = 0;
    for round in 0..12_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_killed_writer_loses_at_most_what_it_has_not_said", "--nocapture"])
            .env(LEDGER, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut said = lines.by_ref().filter_map(|line| line.strip_prefix("booked ")?.parse::<u64>().ok());
        let mut last = said.next().unwrap();
        std::thread::sleep(Duration::from_millis(3 + round * 7 % 40));
        child.kill().unwrap();
        child.wait().unwrap();
        // What it wrote into the pipe before its end.
        last = said.last().unwrap_or(last);
        let there = booked(&path);
        assert!(there == last || there == last + 1, "round {round}: said {last}, booked {there}");
        assert!(there > before, "round {round}: nothing was booked");
        before = there;
    }
}
