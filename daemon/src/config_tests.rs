//! What the file may say, and how it is told what it may not.

use super::*;

const EXAMPLE: &str = include_str!("../../host-configs/paravaned.toml");

#[test]
fn the_example_has_every_setting_and_is_accepted() {
    let config = Config::parse(EXAMPLE).unwrap();
    assert_eq!(config.vm["training"].wanted.cap, Some(Percent::of_thousandths(625)));
    // Every setting is in it, be it in a comment.
    let keys = ["socket", "group", "listen", "hostname", "path", "resolution_s", "retention_days", "placement"];
    let of_vms =
        ["weight", "minimum", "cap", "priority", "mode", "memory_quota", "kernel_limit", "sms", "swap", "gpu", "devices", "uuid"];
    for key in keys.iter().chain(&of_vms) {
        let said = EXAMPLE.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} =")));
        assert!(said, "the example lacks {key}");
    }
}

#[test]
fn an_empty_file_is_all_defaults() {
    let config = Config::parse("").unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.ledger.resolution_s, Resolution(60));
}

#[test]
fn errors_name_line_and_key() {
    let cases = [
        ("[ledger]\npath = 3\n", ["line 2", "path = 3"]),
        ("[control]\n\nsockets = \"x\"\n", ["line 3", "sockets"]),
        ("[ledger]\nresolution_s = 0\n", ["line 2", "resolution_s"]),
        ("[vm.a]\nweight = 1\n\n[vm.b]\nweight = 0\n", ["line 4", "weight 0: must be from 1"]),
        ("[vm.a]\ncap = 150\n", ["line 2", "percent from 0 to 100"]),
        ("[vm.a]\nwieght = 1\n", ["line 2", "wieght"]),
        ("[vm.a]\nmode = \"fixed-share\"\n", ["line 1", "mode fixed-share needs cap"]),
        ("[defaults]\nminimum = 60\n\n[vm.\"a.b\"]\ncap = 50\n", ["line 4", "above the cap"]),
        ("[vm.a]\ngpu=\"G\"\nminimum=60\n[vm.b]\ngpu=\"G\"\nminimum=60\n", ["line 4", "add up to 120%"]),
        ("[vm.a]\ngpu=\"G\"\nminimum=60\n[vm.b]\ngpu=[\"F\", \"G\"]\nminimum=60\n", ["line 4", "on G: the minimums of the GPU's VMs add up to 120%"]),
        ("[vm.a]\ngpu = [\"G\", \"F\", \"G\"]\n", ["line 2", "G comes twice"]),
        ("[vm.a]\nweight = 1\ngpu = []\n", ["line 3", "from 1 to 16 devices"]),
        ("[vm.a]\ngpu = \"\"\n", ["line 2", "a UUID is empty"]),
        ("[vm.a]\ngpu = 7\n", ["line 2", "a device's UUID, or a list of them"]),
        ("[vm.a]\ndevices = 0\n", ["line 2", "nonzero"]),
        ("[vm.a]\ngpu = \"G\"\ndevices = 2\n", ["line 1", "gpu names them already"]),
        ("placement = \"everything\"\n[vm.a]\ndevices = 2\n", ["line 2", "gives it all"]),
        ("[metrics]\nlisten = \"nowhere\"\n", ["line 2", "listen"]),
        ("placement = \"packet\"\n", ["line 1", "spread"]),
        ("a b\n", ["line 1", "a b"]),
    ];
    for (text, words) in cases {
        let said = Config::parse(text).unwrap_err();
        for word in words {
            assert!(said.contains(word), "{text:?} said {said:?}, not {word:?}");
        }
    }
}

#[test]
fn a_vm_is_found_by_uuid_before_its_name() {
    let config = Config::parse("[vm.a]\nuuid = \"u\"\n[vm.b]\nweight = 2\n").unwrap();
    assert_eq!(config.vm_of("b", Some("u")).map(|(name, _)| name), Some("a"));
    assert_eq!(config.vm_of("b", Some("other")).map(|(name, _)| name), Some("b"));
    assert_eq!(config.vm_of("c", None), None);
}

#[test]
fn what_is_persisted_leaves_the_rest_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("paravaned.toml");
    fs::write(&path, "# mine\n[vm.a] # first\nweight = 1 # low\ncap = 50\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let set = |json: &str| serde_json::from_str::<Wanted>(json).unwrap();
    let config = persist(&path, "a", &set(r#"{"weight": 9, "minimum": 12.5}"#)).unwrap();
    assert_eq!(config.vm["a"].wanted.weight, Some(9));
    persist(&path, "b", &set(r#"{"priority": "batch", "mode": "best-effort", "memory_quota": "1G"}"#)).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let expected = "# mine\n[vm.a] # first\nweight = 9 # low\ncap = 50\nminimum = 12.5\n\n[vm.b]\n\
                    priority = \"batch\"\nmode = \"best-effort\"\nmemory_quota = 1073741824\n";
    assert_eq!(text, expected);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let refused = persist(&path, "a", &set(r#"{"minimum": 80}"#)).unwrap_err().to_string();
    assert!(refused.contains("above the cap"), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
}
