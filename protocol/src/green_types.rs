//! CUDA's types of green contexts: parts of a device's multiprocessors, and what names them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::cuda_types::{Handle, Word, handles, numbers};

numbers! {
    /// What kind of a device's resources.
    CUdevResourceType(u32) {
        CU_DEV_RESOURCE_TYPE_INVALID = 0,
        CU_DEV_RESOURCE_TYPE_SM = 1,
        CU_DEV_RESOURCE_TYPE_WORKQUEUE_CONFIG = 1000,
        CU_DEV_RESOURCE_TYPE_WORKQUEUE = 10000,
    }
}

handles! {
    /// A green context.
    CUgreenCtx = 60
    /// What a green context is to have; as long as the process.
    CUdevResourceDesc = 61
}

/// A resource. Beside what cuda.h names it holds what only its library knows: a
/// guest's copy has a name there instead, and no pointer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CUdevResource {
    /// CU_DEV_RESOURCE_TYPE_*.
    pub kind: u32,
    /// cuda.h's `_internal_padding`.
    pub inside: [u32; 23],
    /// The union. Of multiprocessors: count, least count of a part, alignment,
    /// flags, locality domain. Of a workqueue's configuration: device, limit of
    /// concurrency, scope.
    pub value: [u32; 10],
    /// cuda.h's `nextResource`.
    pub next: u64,
}
const _: () = assert!(size_of::<CUdevResource>() == 144);

/// How many words of a resource's union cuda.h names, by its type.
pub fn named_words(kind: CUdevResourceType) -> usize {
    match kind {
        CU_DEV_RESOURCE_TYPE_SM => 5,
        CU_DEV_RESOURCE_TYPE_WORKQUEUE_CONFIG => 3,
        _ => 0,
    }
}

impl CUdevResource {
    /// A guest's copy of a resource that the worker keeps under `name`, which is not 0.
    pub fn named(kind: u32, name: u64, value: [u32; 10]) -> Self {
        let mut inside = [0; 23];
        inside[1] = u32::from_word(name);
        inside[2] = u32::from_word(name >> 32);
        let known = named_words(CUdevResourceType(kind));
        let mut told = [0; 10];
        told.iter_mut().zip(value).take(known).for_each(|(to, from)| *to = from);
        Self { kind, inside, value: told, next: 0 }
    }

    /// The name in a guest's copy; 0 for none.
    pub fn name(&self) -> u64 {
        u64::from(self.inside[1]) | u64::from(self.inside[2]) << 32
    }
}

/// One part of cuDevSmResourceSplit: multiprocessors, how many of them together,
/// how many rather, flags, locality domain; the rest is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(non_snake_case, missing_docs, reason = "CUDA's names")]
pub struct CU_DEV_SM_RESOURCE_GROUP_PARAMS {
    pub smCount: u32,
    pub coscheduledSmCount: u32,
    pub preferredCoscheduledSmCount: u32,
    pub flags: u32,
    pub localityDomainId: u32,
    pub reserved: [u32; 11],
}
const _: () = assert!(size_of::<CU_DEV_SM_RESOURCE_GROUP_PARAMS>() == 64);
