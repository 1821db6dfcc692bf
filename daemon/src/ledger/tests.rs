//! The ledger against crashes between any two steps, and its questions.

use proptest::prelude::*;

use super::*;

fn entry(vm: &str, number: u64, calls: u64) -> Entry {
    let mut counters = Counters::default();
    counters.set("kernels", calls);
    Entry {
        key: Key { boot: vm.into(), number },
        vm: vm.into(),
        uuid: String::new(),
        pid: 7,
        name: format!("p{number}"),
        counters,
        on_devices: OnDevices::new(),
        memory_bytes: 3 << 20,
        memory_peak_bytes: 3 << 20,
        ended: false,
    }
}

fn always() -> Interval {
    Interval { from_s: 0, to_s: u64::MAX }
}

fn kernels(ledger: &Ledger) -> Vec<(String, u64)> {
    let rows = ledger.reader().unwrap().usage(None, always(), By::Process).unwrap();
    rows.into_iter().map(|row| (row.process.unwrap().name, row.used.get("kernels"))).collect()
}

#[test]
fn differences_are_booked_into_the_interval_they_fall_into() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let mut ledger = Ledger::open(&path, 10).unwrap();
    ledger.book(100, &[entry("a", 1, 5), entry("b", 1, 1)]).unwrap();
    ledger.book(109, &[entry("a", 1, 7)]).unwrap();
    ledger.book(110, &[entry("a", 1, 8), entry("b", 1, 2)]).unwrap();
    let of = |from_s, to_s, vm: Option<&str>| {
        let rows = ledger.reader().unwrap().usage(vm, Interval { from_s, to_s }, By::Vm).unwrap();
        rows.iter().map(|row| (row.vm.clone(), row.used.get("kernels"))).collect::<Vec<_>>()
    };
    assert_eq!(of(100, 110, None), [("a".into(), 7), ("b".into(), 1)]);
    assert_eq!(of(110, 120, None), [("a".into(), 1), ("b".into(), 1)]);
    assert_eq!(of(0, 1000, Some("a")), [("a".into(), 8)]);
    assert_eq!(of(120, 1000, None), []);
    let held = ledger.reader().unwrap().usage(Some("a"), always(), By::Vm).unwrap();
    assert_eq!((held[0].memory_mib_s, held[0].memory_peak_bytes), (30, 3 << 20));
}

#[test]
fn an_ended_process_keeps_its_line_and_prune_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(&folder.path().join("l.db"), 1).unwrap();
    let last = Entry { ended: true, ..entry("a", 1, 5) };
    ledger.book(100, std::slice::from_ref(&last)).unwrap();
    ledger.book(101, &[last]).unwrap();
    ledger.book(200, &[entry("a", 2, 1)]).unwrap();
    assert_eq!(kernels(&ledger), [("p1".into(), 5), ("p2".into(), 1)]);
    assert!(ledger.reader().unwrap().usage(None, always(), By::Process).unwrap()[0].process.as_ref().unwrap().ended);
    // One that runs and uses nothing gives a sign of life, and is not taken.
    ledger.book(200 + SIGN_OF_LIFE_S, &[entry("a", 2, 1)]).unwrap();
    ledger.prune(150).unwrap();
    assert_eq!(kernels(&ledger), [("p2".into(), 1)]);
    ledger.prune(201).unwrap();
    ledger.book(SIGN_OF_LIFE_S + 300, &[entry("a", 2, 3)]).unwrap();
    assert_eq!(kernels(&ledger), [("p2".into(), 2)]);
}

#[test]
fn a_sum_that_is_told_twice_at_once_is_booked_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(&folder.path().join("l.db"), 1).unwrap();
    ledger.book(1, &[entry("a", 1, 3), entry("a", 1, 5), entry("a", 1, 4)]).unwrap();
    ledger.book(2, &[Entry { ended: true, ..entry("a", 1, 6) }, entry("a", 2, 1)]).unwrap();
    assert_eq!(kernels(&ledger), [("p1".into(), 6), ("p2".into(), 1)]);
    let Past { counters: past, numbers, .. } = ledger.reader().unwrap().past("a").unwrap();
    assert_eq!((past.get("kernels"), numbers.into_iter().collect::<Vec<_>>()), (6, vec![1]));
    assert!(ledger.reader().unwrap().past("other").unwrap().numbers.is_empty());
}

#[test]
fn what_no_account_reaches_does_not_break_the_sums() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(&folder.path().join("l.db"), 1).unwrap();
    let lie = |number| Entry { memory_bytes: u64::MAX, ..entry("a", number, u64::MAX) };
    ledger.book(1, &[lie(1), lie(2)]).unwrap();
    ledger.book(2, &[lie(1), entry("a", 2, 4)]).unwrap();
    let sum = &ledger.reader().unwrap().usage(None, always(), By::Vm).unwrap()[0];
    assert_eq!(sum.used.get("kernels"), u64::MAX - 1, "two times SQLite's greatest");
}

#[test]
fn a_later_releases_file_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l.db");
    drop(Ledger::open(&path, 1).unwrap());
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 9").unwrap();
    let error = Ledger::open(&path, 1).unwrap_err().to_string();
    assert!(error.contains("format 9"), "{error}");
}

#[test]
fn an_earlier_releases_file_gets_the_columns_that_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l.db");
    let mut ledger = Ledger::open(&path, 1).unwrap();
    ledger.book(100, &[entry("a", 1, 5)]).unwrap();
    drop(ledger);
    let old = Connection::open(&path).unwrap();
    for table in ["process", "slice"] {
        old.execute_batch(&format!("ALTER TABLE {table} DROP COLUMN graph_launches")).unwrap();
    }
    drop(old);
    let mut ledger = Ledger::open(&path, 1).unwrap();
    let mut more = entry("a", 1, 8);
    more.counters.set("graph_launches", 2);
    ledger.book(101, &[more]).unwrap();
    let sum = &ledger.reader().unwrap().usage(None, always(), By::Vm).unwrap()[0];
    assert_eq!((sum.used.get("kernels"), sum.used.get("graph_launches")), (8, 2));
}

#[test]
fn a_peak_counts_where_it_was_reached() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l.db");
    let mut ledger = Ledger::open(&path, 10).unwrap();
    let at = |peak_mib: u64| Entry { memory_peak_bytes: peak_mib << 20, ..entry("a", 1, peak_mib) };
    ledger.book(100, &[at(9)]).unwrap();
    drop(ledger);
    let mut ledger = Ledger::open(&path, 10).unwrap();
    ledger.book(110, &[at(9)]).unwrap();
    ledger.book(120, &[at(20)]).unwrap();
    let peak = |from_s, to_s| {
        let rows = ledger.reader().unwrap().usage(None, Interval { from_s, to_s }, By::Vm).unwrap();
        rows.first().map_or(0, |row| row.memory_peak_bytes >> 20)
    };
    assert_eq!([peak(100, 110), peak(110, 120), peak(120, 130), peak(0, 200)], [9, 3, 20, 20]);
}

#[test]
fn csv_has_a_head_and_quotes_what_a_guest_may_choose() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(&folder.path().join("l.db"), 1).unwrap();
    ledger.book(1, &[Entry { name: "=cmd,\"x\"".into(), ..entry("a", 1, 2) }]).unwrap();
    let text = csv(&ledger.reader().unwrap().usage(None, always(), By::Process).unwrap(), By::Process);
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert!(lines[0].starts_with("vm,uuid,boot,number,pid,name,"), "{text}");
    assert!(lines[1].starts_with("a,,a,1,7,\"'=cmd,\"\"x\"\"\","), "{text}");
    let commas = |line: &str| line.matches(',').count();
    assert_eq!(commas(lines[0]) + 1, commas(lines[1]), "one comma is in the name");
}

/// What may happen between two looks at the accounts.
#[derive(Clone, Debug)]
enum Step {
    /// A process uses something.
    Use(usize, u64),
    /// All is booked.
    Book,
    /// The booking writer ends before its commit.
    Crash,
    /// The file is opened again.
    Reopen,
    /// The process ends; the last figures are booked with the next booking.
    End(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        4 => (0..4_usize, 1..1000_u64).prop_map(|(process, amount)| Step::Use(process, amount)),
        3 => Just(Step::Book),
        1 => Just(Step::Crash),
        1 => Just(Step::Reopen),
        1 => (0..4_usize).prop_map(Step::End),
    ];
    prop::collection::vec(one, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// After each step the ledger has what the accounts had at the last booking: no more, no less.
    #[test]
    fn nothing_is_lost_but_since_the_last_booking_and_nothing_doubled(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l.db");
        let mut ledger = Ledger::open(&path, 7).unwrap();
        let mut accounts: Vec<Entry> = (0..4).map(|at| entry(["a", "b"][at % 2], at as u64 + 1, 0)).collect();
        let mut booked = [0; 4];
        for (now, step) in (1000_u64..).zip(steps) {
            match step {
                Step::Use(at, amount) if !accounts[at].ended => {
                    let sum = accounts[at].counters.get("kernels") + amount;
                    accounts[at].counters.set("kernels", sum);
                }
                Step::Use(..) => {}
                Step::End(at) => accounts[at].ended = true,
                Step::Book => {
                    ledger.book(now, &accounts).unwrap();
                    booked = [0, 1, 2, 3].map(|at: usize| accounts[at].counters.get("kernels"));
                }
                Step::Crash => {
                    let transaction = ledger.connection.transaction().unwrap();
                    write_all(&transaction, &ledger.booked, now, 7, &accounts).unwrap();
                    drop(transaction);
                    drop(ledger);
                    ledger = Ledger::open(&path, 7).unwrap();
                }
                Step::Reopen => {
                    drop(ledger);
                    ledger = Ledger::open(&path, 7).unwrap();
                }
            }
            let found = kernels(&ledger);
            for (at, expected) in booked.iter().enumerate() {
                let name = format!("p{}", at + 1);
                let sum = found.iter().find(|(process, _)| *process == name).map_or(0, |(_, sum)| *sum);
                prop_assert_eq!(sum, *expected, "process {}", name);
            }
        }
    }
}
