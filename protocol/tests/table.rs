//! The API table against CUDA's own interface: every row's name, number and
//! kinds of arguments are compared with `cuda_abi.tsv`, which says how it was
//! made. Whoever adds a row learns here of a slip in it.
#![allow(clippy::unwrap_used, reason = "a test")]

use core::ffi::c_void;
use std::collections::{BTreeMap, BTreeSet};

use paravane_protocol::arg::{Del, In, InOut, InOutSlice, InSlice, InStr, New, Of, On, Out, OutOpt, OutSlice};
use paravane_protocol::cuda_types::*;
use paravane_protocol::{cuda_api, cuda_api_absent, internal, opcode};

/// How cuda_abi.tsv writes a type.
trait Kind {
    fn kind() -> String;
}

macro_rules! kinds {
    ($($kind:literal: $($type:ty)*;)*) => {$($(
        impl Kind for $type {
            fn kind() -> String {
                $kind.to_owned()
            }
        }
    )*)*};
}
kinds! {
    "u8": u8 i8;
    "u16": u16;
    "i32": i32 CUdevice;
    "u32": u32;
    "u64": u64 usize CUdeviceptr;
    "f32": f32;
    "void": c_void AttributeValue;
    "*void": DeviceAddress;
    "e32": CUresult CUdevice_attribute CUfunction_attribute CUlimit CUsharedconfig CUfunc_cache CUjit_option CUlibraryOption CUjitInputType
        CUmoduleLoadingMode CUdriverProcAddressQueryResult CUfunctionLoadingState
        CUstreamCaptureMode CUstreamCaptureStatus CUlaunchAttributeID CUgraphNodeType CUgraphMem_attribute
        CUgraphExecUpdateResult CUexecAffinityType CUatomicOperation;
    "h": CUgraph CUgraphNode CUgraphExec CUuserObject CUcontext CUmodule CUfunction CUlibrary CUkernel CUstream CUevent
        CUlinkState CUlogsCallbackHandle;
    "e32": CUmemPool_attribute CUmemAccess_flags CUmemAllocationType CUpointer_attribute
        CUdevice_P2PAttribute CUmemAllocationHandleType CUmemAllocationGranularity_flags CUmem_advise CUmem_range_attribute CUarray_format
        CUmulticastGranularity_flags CUflushGPUDirectRDMAWritesTarget CUflushGPUDirectRDMAWritesScope
        CUtensorMapDataType CUtensorMapInterleave CUtensorMapSwizzle CUtensorMapL2promotion CUtensorMapFloatOOBfill
        CUtensorMapIm2ColWideMode CUdevResourceType CUtensorMapAllocClass;
    "u64": CUtexObject CUsurfObject CUmemGenericAllocationHandle;
    "h": CUmemoryPool CUarray CUmipmappedArray CUgreenCtx CUdevResourceDesc;
    "f": CUlogsCallback CUhostFn CUstreamCallback CUoccupancyB2DSize;
}
macro_rules! struct_kinds {
    ($($type:ty)*) => {$(
        impl Kind for $type {
            fn kind() -> String {
                format!("s{}", size_of::<$type>())
            }
        }
    )*};
}
struct_kinds!(CUgraphEdgeData CUDA_KERNEL_NODE_PARAMS_v1 CUDA_KERNEL_NODE_PARAMS CUDA_MEMCPY3D);
struct_kinds!(CUDA_MEMSET_NODE_PARAMS CUDA_HOST_NODE_PARAMS CUDA_BATCH_MEM_OP_NODE_PARAMS);
struct_kinds!(CUDA_MEM_ALLOC_NODE_PARAMS CUgraphNodeParams CUDA_GRAPH_INSTANTIATE_PARAMS);
struct_kinds!(CUgraphExecUpdateResultInfo CUexecAffinityParam CUDA_LAUNCH_PARAMS);
struct_kinds!(CUdevprop CUuuid CUDA_MEMCPY2D CUlaunchConfig CUlaunchAttributeValue CUstreamBatchMemOpParams);
struct_kinds!(CUipcHandle CUmemAllocationProp CUmulticastObjectProp CUtensorMap);
struct_kinds!(CUmemLocation CUmemAccessDesc CUmemPoolProps CUmemcpyAttributes CUDA_MEMCPY3D_BATCH_OP);
struct_kinds!(CUDA_ARRAY_DESCRIPTOR CUDA_ARRAY3D_DESCRIPTOR CUDA_ARRAY_MEMORY_REQUIREMENTS CUDA_ARRAY_SPARSE_PROPERTIES);
struct_kinds!(CUmemDecompressParams CUdevResource CU_DEV_SM_RESOURCE_GROUP_PARAMS);
struct_kinds!(CUDA_RESOURCE_DESC CUDA_TEXTURE_DESC CUDA_RESOURCE_VIEW_DESC);

impl<T: Kind> Kind for *mut T {
    fn kind() -> String {
        format!("*{}", T::kind())
    }
}
impl<T: Kind> Kind for *const T {
    fn kind() -> String {
        format!("*{}", T::kind())
    }
}

macro_rules! by_value {
    ($($direction:ident)*) => {$(
        impl<T: Kind> Kind for $direction<T> {
            fn kind() -> String {
                T::kind()
            }
        }
    )*};
}
by_value!(In On Of Del);
macro_rules! by_pointer {
    ($($direction:ident)*) => {$(
        impl<T: Kind> Kind for $direction<T> {
            fn kind() -> String {
                format!("*{}", T::kind())
            }
        }
    )*};
}
by_pointer!(Out OutOpt InOut InSlice OutSlice InOutSlice New);
impl Kind for InStr {
    fn kind() -> String {
        ConstStr::kind()
    }
}

macro_rules! rows {
    ($($opcode:literal $verb:ident fn $name:ident($($arg:ident: $kind:ty $([$len:expr])?),*) $(+ $variant:ident)?;)*) => {
        /// Name, per-thread variant and kinds of the arguments of every row.
        fn rows() -> Vec<(&'static str, Option<&'static str>, String)> {
            let mut rows = Vec::new();
            $(
                let kinds: Vec<String> = vec![$(<$kind>::kind()),*];
                let variant: Option<&str> = [$(stringify!($variant))?].first().copied();
                rows.push((stringify!($name), variant, kinds.join(" ")));
            )*
            rows
        }
    };
}
cuda_api!(rows);

macro_rules! absent_names {
    ($($reason:literal: [$($name:ident;)*])*) => {
        const ABSENT: &[&str] = &[$($(stringify!($name)),*),*];
        /// Each reason with its symbols.
        const REASONS: &[(&str, &[&str])] = &[$(($reason, &[$(stringify!($name)),*])),*];
    };
}
cuda_api_absent!(absent_names);

/// cuda_abi.tsv: name to kinds of arguments; `None` where only the name is listed.
fn abi() -> BTreeMap<&'static str, Option<&'static str>> {
    include_str!("cuda_abi.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once('\t').unwrap())
        .map(|(name, kinds)| (name, (kinds != "?").then_some(kinds)))
        .collect()
}

/// Whether the table's kinds are cuda.h's. An untyped pointer in the table
/// stands for any pointer: a hand-written symbol looks into it itself.
fn agree(table: &str, declared: &str) -> bool {
    table.split(' ').count() == declared.split(' ').count()
        && table
            .split(' ')
            .zip(declared.split(' '))
            .all(|(ours, theirs)| ours == theirs || ours == "*void" && theirs.starts_with('*'))
}

#[test]
fn every_row_has_the_arguments_that_cuda_h_declares() {
    let abi = abi();
    let mut wrong = Vec::new();
    for (name, variant, kinds) in rows() {
        for symbol in [Some(name), variant].into_iter().flatten() {
            if !abi.get(symbol).is_some_and(|declared| declared.is_some_and(|d| agree(&kinds, d))) {
                wrong.push(format!("{symbol}: table {kinds:?}, cuda.h {:?}", abi.get(symbol)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn table_and_absent_list_are_the_whole_interface_without_overlap() {
    let mut named = BTreeSet::new();
    let symbols = rows().into_iter().flat_map(|(name, variant, _)| [Some(name), variant]);
    for symbol in symbols.flatten().chain(ABSENT.iter().copied()) {
        assert!(named.insert(symbol), "{symbol} is listed twice");
    }
    let listed: BTreeSet<&str> = abi().into_keys().collect();
    let missing: Vec<_> = listed.difference(&named).collect();
    let unknown: Vec<_> = named.difference(&listed).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing {missing:?}, unknown {unknown:?}");
}

#[test]
fn opcodes_rise_from_row_to_row_and_stay_below_the_internal_ones() {
    for pair in opcode::ALL.windows(2) {
        assert!(pair[0].0 < pair[1].0, "{} does not come after {}", pair[1].1, pair[0].1);
    }
    let (last, name) = opcode::ALL.last().unwrap();
    assert!(*last < internal::HELLO, "{name} lies among the internal opcodes");
}

#[test]
fn opcodes_and_names_lead_to_each_other() {
    for (number, name) in opcode::ALL {
        assert_eq!(opcode::name(*number), Some(*name));
    }
    assert_eq!(opcode::name(internal::COPY), Some("COPY"));
    assert_eq!(opcode::name(0), None);
}

/// docs/absent.md, as the table has it.
fn absent_page() -> String {
    let mut page = String::from(
        "# What stays absent\n\n\
         These symbols are exported, answer CUDA_ERROR_NOT_SUPPORTED and are not found by cuGetProcAddress; everything else in \
         cuda.h 13.5\nis there. The page is made from `cuda_api_absent!` in `protocol/src/cuda_api.rs`: \
         `PARAVANE_WRITE_DOCS=1 cargo test -p paravane-protocol`.\n",
    );
    for (reason, names) in REASONS {
        page.push_str(&format!("\n## {}\n{reason}\n\n", heading(names)));
        let per_thread = |name: &&&str| !name.ends_with("_ptsz") && !name.ends_with("_ptds");
        for name in names.iter().filter(per_thread) {
            page.push_str(&format!("- `{name}`\n"));
        }
    }
    page
}

/// A group's first symbol and how many there are.
fn heading(names: &[&str]) -> String {
    match names {
        [only] => (*only).to_owned(),
        [first, ..] => format!("{first} and {} more", names.len() - 1),
        [] => String::new(),
    }
}

#[test]
fn the_page_of_what_is_absent_is_the_tables() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/absent.md");
    let page = absent_page();
    if std::env::var_os("PARAVANE_WRITE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(there == page, "docs/absent.md is not what the table says: PARAVANE_WRITE_DOCS=1 writes it");
    for (reason, names) in REASONS {
        assert!(!names.is_empty() && reason.ends_with('.') && reason.len() > 20, "{reason:?} tells no reason");
    }
}
