//! No row of the table that may allocate or free is forgotten.

use super::*;

macro_rules! names {
    ($($opcode:literal $verb:ident fn $name:ident $arguments:tt $(+ $variant:ident)?;)*) => {
        const ROWS: &[(&str, &str)] = &[$((stringify!($verb), stringify!($name))),*];
    };
}
paravane_protocol::cuda_api!(names);

macro_rules! charged {
    ($($name:ident)*) => {
        const CHARGED: &[&str] = &[$(stringify!($name)),*];
    };
}
charged_rows!(charged);

/// Words in the names of rows that make, end or change something.
const HINTS: [&str; 15] = [
    "Alloc", "Create", "Destroy", "Free", "Load", "Unload", "Register", "Import", "Open", "Retain", "Release", "Limit",
    "Instantiate", "Trim", "Map",
];

/// Rows with such a name whose memory is not the device's to speak of, or is
/// charged elsewhere.
const ELSEWHERE: [(&str, &str); 6] = [
    ("what a stream, an event or a texture takes is the context's, and seen at the next look", "cuStreamCreate cuStreamCreateWithPriority cuStreamDestroy_v2 cuEventCreate cuEventDestroy_v2 cuTexObjectCreate cuTexObjectDestroy cuSurfObjectCreate cuSurfObjectDestroy"),
    ("has no memory yet, or none any more", "cuMemPoolCreate cuMemAddressFree cuMulticastCreate cuGraphCreate"),
    ("the exporter is charged", "cuIpcOpenMemHandle_v2 cuIpcOpenEventHandle cuMemPoolImportFromShareableHandle cuMemPoolImportPointer"),
    ("has its primary context's memory, and retains that by a row of its own", "cuGreenCtxCreate cuGreenCtxDestroy cuGreenCtxStreamCreate"),
    ("memory of the worker's own, bounded by its limits", "cuLinkCreate_v2 cuLinkDestroy"),
    ("writes what the program gives room for", "cuTensorMapEncodeTiled cuTensorMapEncodeIm2col cuTensorMapEncodeIm2colWide cuTensorMapReplaceAddress cuTensorMapSetAllocationClass"),
];

/// Rows that ask, or that set a reference or a value.
fn asks(name: &str) -> bool {
    ["Get", "IsLoaded", "ConditionalHandle", "UserObject"].iter().any(|word| name.contains(word))
}

#[test]
fn every_row_that_may_allocate_is_charged_or_has_a_reason() {
    let forgotten: Vec<&str> = ROWS
        .iter()
        .filter(|(verb, name)| *verb != "local" && HINTS.iter().any(|hint| name.contains(hint)))
        .map(|(_, name)| *name)
        .filter(|name| !CHARGED.contains(name) && !asks(name))
        .filter(|name| !ELSEWHERE.iter().any(|(_, known)| known.split(' ').any(|known| known == *name)))
        .collect();
    assert!(forgotten.is_empty(), "give a reason, or charge them: {forgotten:?}");
    let unknown: Vec<_> = CHARGED.iter().filter(|name| !ROWS.iter().any(|(_, row)| row == *name)).collect();
    assert!(unknown.is_empty(), "no rows: {unknown:?}");
}

#[test]
fn arrays_take_padded_rows() {
    let of = |format, channels, [width, height, depth]: [u64; 3]| {
        let flat = CUDA_ARRAY_DESCRIPTOR { Width: width, Height: height, Format: format, NumChannels: channels };
        array_bytes(&CUDA_ARRAY3D_DESCRIPTOR { Depth: depth, ..CUDA_ARRAY3D_DESCRIPTOR::flat(&flat) })
    };
    assert_eq!(of(CU_AD_FORMAT_FLOAT, 4, [10, 0, 0]), 160);
    assert_eq!(of(CU_AD_FORMAT_UNSIGNED_INT8, 1, [10, 3, 2]), 16 * 6);
    assert_eq!(of(CU_AD_FORMAT_UNORM_INT16X4, 4, [4, 2, 0]), 64);
    assert_eq!(of(CU_AD_FORMAT_FLOAT, 1, [u64::MAX, 2, 0]), u64::MAX);
}
