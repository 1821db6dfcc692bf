//! Time by device: sums that agree with the VM's, whoever lies or begins again.

use std::path::Path;

use super::super::{Entry, Key, Ledger};
use super::*;

fn entry(number: u64, all: u64, on: &[(&str, u64)]) -> Entry {
    let mut counters = Counters::default();
    counters.set(ALL, all);
    Entry {
        key: Key { boot: "run".into(), number },
        vm: "a".into(),
        uuid: "u".into(),
        pid: 7,
        name: "p".into(),
        counters,
        on_devices: on.iter().map(|(gpu, ns)| (gpu.to_string(), *ns)).collect(),
        memory_bytes: 0,
        memory_peak_bytes: 0,
        ended: false,
    }
}

fn rows(ledger: &Ledger, from_s: u64) -> Vec<(String, u64)> {
    let interval = Interval { from_s, to_s: u64::MAX };
    let rows = ledger.reader().unwrap().usage_on_devices(None, interval).unwrap();
    rows.into_iter().map(|row| (row.gpu, row.gpu_time_ns)).collect()
}

fn expect(rows: &[(&str, u64)]) -> Vec<(String, u64)> {
    rows.iter().map(|(gpu, ns)| (gpu.to_string(), *ns)).collect()
}

fn open(path: &Path) -> Ledger {
    Ledger::open(path, 10).unwrap()
}

#[test]
fn each_device_has_its_differences_in_their_interval() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l.db");
    let mut ledger = open(&path);
    ledger.book(100, &[entry(1, 30, &[("x", 10), ("y", 20)]), entry(2, 5, &[("x", 5)])]).unwrap();
    drop(ledger);
    let mut ledger = open(&path);
    // The same again, by another run of paravaned.
    ledger.book(105, &[entry(1, 30, &[("x", 10), ("y", 20)])]).unwrap();
    ledger.book(110, &[Entry { ended: true, ..entry(1, 42, &[("x", 11), ("y", 31)]) }]).unwrap();
    assert_eq!(rows(&ledger, 0), expect(&[("x", 16), ("y", 31)]));
    assert_eq!(rows(&ledger, 110), expect(&[("x", 1), ("y", 11)]));
    let past = ledger.reader().unwrap().past("run").unwrap();
    assert_eq!(past.on_devices, [("x".into(), 11), ("y".into(), 31)].into());
    let found = ledger.reader().unwrap().usage_on_devices(Some("a"), Interval { from_s: 110, to_s: 111 }).unwrap();
    assert_eq!(csv_on_devices(&found), "vm,uuid,gpu,gpu_time_ns\r\na,u,x,1\r\na,u,y,11\r\n");
    ledger.prune(110).unwrap();
    assert_eq!(rows(&ledger, 0), expect(&[("x", 1), ("y", 11)]));
    ledger.prune(1000).unwrap();
    assert_eq!(rows(&ledger, 0), []);
    let left: i64 = ledger.connection.query_row("SELECT count(*) FROM device", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0, "devices go with their processes");
}

#[test]
fn devices_have_no_more_than_the_vm() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(&folder.path().join("l.db"));
    // Two counters are not read in one moment, and a worker writes what it likes.
    ledger.book(100, &[entry(1, 10, &[("x", 12), ("y", u64::MAX)])]).unwrap();
    assert_eq!(rows(&ledger, 0), expect(&[("x", 10)]));
    ledger.book(101, &[entry(1, 14, &[("x", 12), ("y", 1)])]).unwrap();
    assert_eq!(rows(&ledger, 0), expect(&[("", 1), ("x", 12), ("y", 1)]));
    ledger.book(102, &[entry(1, 14, &[("x", 5), ("y", 2)])]).unwrap();
    assert_eq!(rows(&ledger, 0), expect(&[("x", 12), ("y", 2)]), "a sum that goes back is not believed");
}

#[test]
fn what_an_earlier_release_has_booked_is_of_no_device() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l.db");
    let mut ledger = open(&path);
    ledger.book(100, &[entry(1, 1000, &[])]).unwrap();
    ledger.connection.execute_batch("DROP TABLE device; DROP TABLE device_slice").unwrap();
    drop(ledger);
    let mut ledger = open(&path);
    ledger.book(200, &[entry(1, 1010, &[("x", 1010)])]).unwrap();
    assert_eq!(rows(&ledger, 0), expect(&[("", 1000), ("x", 10)]));
    assert_eq!(rows(&ledger, 200), expect(&[("x", 10)]), "not all at once");
}
