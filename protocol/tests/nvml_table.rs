//! The table of NVML's functions against `nvml_abi.tsv`, which says how it was
//! made: names, kinds of arguments, and that nothing is left out.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};

use paravane_protocol::arg::{In, InOut, InOutSlice, InStr, On, Out};
use paravane_protocol::nvml_arg::{OutText, Versioned};
use paravane_protocol::nvml_types::*;
use paravane_protocol::{nvml_api, nvml_api_absent};

/// How nvml_abi.tsv writes a type.
trait Kind {
    fn kind() -> String;
}

macro_rules! by_size {
    ($($type:ty)*) => {$(
        impl Kind for $type {
            fn kind() -> String {
                size_of::<$type>().to_string()
            }
        }
    )*};
}
by_size!(u32 i32 u64 nvmlPciInfo_t nvmlPciInfoExt_t nvmlMemory_t nvmlMemory_v2_t nvmlUtilization_t);
by_size!(nvmlProcessInfo_v1_t nvmlProcessInfo_t nvmlProcessUtilizationSample_t nvmlUUID_t);
by_size!(nvmlFieldValue_t nvmlViolationTime_t nvmlRowRemapperHistogramValues_t nvmlGpuFabricInfo_t);

impl Kind for nvmlDevice_t {
    fn kind() -> String {
        "h".to_owned()
    }
}
impl Kind for OutText {
    fn kind() -> String {
        "*char".to_owned()
    }
}
impl Kind for InStr {
    fn kind() -> String {
        OutText::kind()
    }
}
impl<const BYTES: usize> Kind for Versioned<BYTES> {
    fn kind() -> String {
        format!("*{BYTES}")
    }
}
impl<T: Kind> Kind for In<T> {
    fn kind() -> String {
        T::kind()
    }
}
impl<T: Kind> Kind for On<T> {
    fn kind() -> String {
        T::kind()
    }
}
macro_rules! by_pointer {
    ($($direction:ident)*) => {$(
        impl<T: Kind> Kind for $direction<T> {
            fn kind() -> String {
                format!("*{}", T::kind())
            }
        }
    )*};
}
by_pointer!(Out InOut InOutSlice);

macro_rules! rows {
    ($($number:literal $verb:ident fn $name:ident($($arg:ident: $kind:ty $([$len:expr])?),*);)*) => {
        /// Number, name and kinds of the arguments of every row.
        fn rows() -> Vec<(u16, &'static str, String)> {
            vec![$(($number, stringify!($name), { let kinds: Vec<String> = vec![$(<$kind>::kind()),*]; kinds.join(" ") })),*]
        }
    };
}
nvml_api!(rows);

macro_rules! absent_names {
    ($($name:ident;)*) => {
        const ABSENT: &[&str] = &[$(stringify!($name)),*];
    };
}
nvml_api_absent!(absent_names);

fn abi() -> BTreeMap<&'static str, &'static str> {
    let lines = include_str!("nvml_abi.tsv").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once('\t').unwrap()).collect()
}

#[test]
fn every_row_has_the_arguments_that_nvml_h_declares() {
    let abi = abi();
    for (_, name, kinds) in rows() {
        assert_eq!(abi.get(name), Some(&kinds.as_str()), "{name}");
    }
}

#[test]
fn rows_and_absent_list_are_the_whole_interface_without_overlap() {
    let mut named = BTreeSet::from(["nvmlErrorString"]);
    for symbol in rows().into_iter().map(|(_, name, _)| name).chain(ABSENT.iter().copied()) {
        assert!(named.insert(symbol), "{symbol} is listed twice");
    }
    let listed: BTreeSet<&str> = abi().into_keys().collect();
    assert_eq!(listed, named);
}

#[test]
fn numbers_rise() {
    assert!(rows().windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn a_handle_stands_for_a_device_and_nothing_else_does() {
    assert_eq!(nvmlDevice_t::of(3).ordinal(), Some(3));
    assert_eq!(nvmlDevice_t(0).ordinal(), None);
    assert_eq!(nvmlDevice_t(usize::MAX).ordinal(), None);
}

#[test]
fn errors_have_names() {
    assert_eq!(error_string(NVML_ERROR_NOT_SUPPORTED), c"Not Supported");
    assert_eq!(error_string(nvmlReturn_t(77)), c"Unknown Error");
    assert_eq!(struct_version(40, 2), 0x0200_0028);
    assert_eq!(uuid_text(b"0123456789abcdef"), "GPU-30313233-3435-3637-3839-616263646566");
}
