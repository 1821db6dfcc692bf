//! The directions of the table on the host's side: how an argument is read
//! from a frame, handed to libcuda, and its result written into the reply.

use std::ffi::{CStr, CString, c_char};

use paravane_protocol::arg::*;
use paravane_protocol::codec::{Decoder, Encoder};
use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::REPLY_BYTES_MAX;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::handles::{Belongs, Handles};
use super::libcuda::Answer;

/// Where arguments are resolved: the process's handles and the context that is
/// current on the ring's thread.
pub(super) struct Scope<'a> {
    pub(super) handles: &'a Handles,
    pub(super) context: u64,
}

/// A type that libcuda takes: numbers as they are, ids as what they stand for.
pub(super) trait Native: Word {
    fn resolve(self, handles: &Handles) -> Answer<Self>;
    /// What the guest is told of a result.
    fn tell(self, _: &Handles) -> Answer<Self> {
        Ok(self)
    }
}

macro_rules! plain {
    ($($type:ty)*) => {$(
        impl Native for $type {
            #[inline]
            fn resolve(self, _: &Handles) -> Answer<Self> {
                Ok(self)
            }
        }
    )*};
}
plain!(u8 u16 u32 u64 usize i32 f32 CUdevice CUdeviceptr CUlimit CUsharedconfig CUfunc_cache);
plain!(CUfunction_attribute CUfunctionLoadingState);
plain!(CUstreamCaptureMode CUstreamCaptureStatus CUgraphNodeType);
plain!(CUmemAllocationGranularity_flags CUarray_format CUmulticastGranularity_flags DeviceAddress);
plain!(CUflushGPUDirectRDMAWritesTarget CUflushGPUDirectRDMAWritesScope CUtensorMapDataType CUtensorMapInterleave);
plain!(CUtensorMapSwizzle CUtensorMapL2promotion CUtensorMapFloatOOBfill CUtensorMapIm2ColWideMode);
plain!(AttributeValue CUmemPool_attribute CUmemAccess_flags CUmemLocation CUdevice_P2PAttribute);

/// Attributes of streams and nodes travel as bytes: those whose value holds
/// libcuda's own pointers are refused in both directions.
impl Native for CUlaunchAttributeID {
    fn resolve(self, _: &Handles) -> Answer<Self> {
        let with_pointers = [
            CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT,
            CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT,
            CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE,
        ];
        if with_pointers.contains(&self) { Err(CUDA_ERROR_NOT_SUPPORTED) } else { Ok(self) }
    }
}

macro_rules! handles {
    ($($type:ty)*) => {$(
        impl Native for $type {
            #[inline]
            fn resolve(self, handles: &Handles) -> Answer<Self> {
                handles.resolve(self)
            }
            fn tell(self, handles: &Handles) -> Answer<Self> {
                handles.tell(self, 0)
            }
        }
    )*};
}
handles!(CUcontext CUmodule CUfunction CUlibrary CUkernel CUstream CUevent);
handles!(CUgraph CUgraphNode CUgraphExec CUuserObject);
handles!(CUmemoryPool CUarray CUmipmappedArray CUmemGenericAllocationHandle);
handles!(CUgreenCtx CUdevResourceDesc);

/// A direction as the worker handles it.
pub(super) trait HostArg: Arg {
    /// Holds the argument while libcuda runs.
    type Slot;
    fn take(from: &mut Decoder, scope: &Scope) -> Answer<Self::Slot>;
    fn c(slot: &mut Self::Slot) -> Self::C;
    /// libcuda has succeeded: the result goes into the reply and the tables.
    fn finish(_slot: Self::Slot, _scope: &Scope, _to: &mut Encoder) -> Answer {
        Ok(())
    }
}

impl<T: Native> HostArg for In<T> {
    type Slot = T;
    #[inline]
    fn take(from: &mut Decoder, scope: &Scope) -> Answer<T> {
        T::from_word(from.word()).resolve(scope.handles)
    }
    #[inline]
    fn c(slot: &mut T) -> T {
        *slot
    }
}

impl<T: Native> HostArg for On<T> {
    type Slot = T;
    #[inline]
    fn take(from: &mut Decoder, scope: &Scope) -> Answer<T> {
        <In<T> as HostArg>::take(from, scope)
    }
    #[inline]
    fn c(slot: &mut T) -> T {
        *slot
    }
}

impl<T: Native> HostArg for Of<T> {
    type Slot = T;
    fn take(from: &mut Decoder, scope: &Scope) -> Answer<T> {
        <In<T> as HostArg>::take(from, scope)
    }
    fn c(slot: &mut T) -> T {
        *slot
    }
}

impl<T: Native> HostArg for InOut<T> {
    type Slot = T;
    fn take(from: &mut Decoder, scope: &Scope) -> Answer<T> {
        <In<T> as HostArg>::take(from, scope)
    }
    fn c(slot: &mut T) -> *mut T {
        slot
    }
    fn finish(slot: T, scope: &Scope, to: &mut Encoder) -> Answer {
        <Out<T> as HostArg>::finish(slot, scope, to)
    }
}

plain!(CUexecAffinityType CUdevResourceType CUtensorMapAllocClass);

/// An element of an array: plain numbers, or a handle that is resolved.
pub(super) trait Element: FromBytes + IntoBytes + Immutable + Copy {
    fn resolve(self, _: &Handles) -> Answer<Self> {
        Ok(self)
    }
    /// What the guest is told of it.
    fn tell(self, _: &Handles) -> Answer<Self> {
        Ok(self)
    }
}
impl Element for CUdevResource {
    fn resolve(self, handles: &Handles) -> Answer<Self> {
        handles.resources.find(self)
    }
    fn tell(self, handles: &Handles) -> Answer<Self> {
        handles.resources.keep(self)
    }
}
impl Element for CUexecAffinityParam {}
impl Element for CUlaunchAttributeValue {}
impl Element for CUstreamBatchMemOpParams {}
impl Element for u32 {}
impl Element for u64 {}
impl Element for i32 {}
impl Element for CUtensorMap {}
impl Element for CUmemDecompressParams {}
impl Element for CUmulticastObjectProp {}
impl Element for CUmemAllocationProp {
    fn resolve(self, _: &Handles) -> Answer<Self> {
        Ok(Self { win32HandleMetaData: 0, ..self })
    }
}
impl Element for AttributeValue {}
impl Element for CUmemLocation {}
impl Element for CUatomicOperation {}
impl Element for CUmemAccessDesc {}
impl Element for CUDA_ARRAY_DESCRIPTOR {}
impl Element for CUDA_ARRAY3D_DESCRIPTOR {}
impl Element for CUDA_ARRAY_MEMORY_REQUIREMENTS {}
impl Element for CUDA_ARRAY_SPARSE_PROPERTIES {}
impl Element for CUDA_TEXTURE_DESC {}
impl Element for CUDA_RESOURCE_DESC {
    fn resolve(self, handles: &Handles) -> Answer<Self> {
        let mut words = self.words;
        match self.resType {
            CU_RESOURCE_TYPE_ARRAY => words[0] = handles.resolve(CUarray(words[0]))?.0,
            CU_RESOURCE_TYPE_MIPMAPPED_ARRAY => {
                words[0] = handles.resolve(CUmipmappedArray(words[0]))?.0;
            }
            CU_RESOURCE_TYPE_LINEAR | CU_RESOURCE_TYPE_PITCH2D => {}
            _ => return Err(CUDA_ERROR_INVALID_VALUE),
        }
        Ok(Self { words, ..self })
    }
}
impl Element for CUmemPoolProps {
    fn resolve(self, _: &Handles) -> Answer<Self> {
        Ok(Self { win32SecurityAttributes: 0, ..self })
    }
}

impl<T: Element> HostArg for InSlice<T> {
    type Slot = Vec<T>;
    fn take(from: &mut Decoder, scope: &Scope) -> Answer<Vec<T>> {
        let bytes = from.bytes();
        if !bytes.len().is_multiple_of(size_of::<T>()) {
            from.fail();
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let elements = bytes.chunks_exact(size_of::<T>());
        let read = |raw| T::read_from_bytes(raw).map_err(|_| CUDA_ERROR_INVALID_VALUE);
        elements.map(|raw| read(raw)?.resolve(scope.handles)).collect()
    }
    fn c(slot: &mut Vec<T>) -> *const T {
        slot.as_ptr()
    }
}

impl<T: Element> HostArg for OutSlice<T> {
    type Slot = Vec<T>;
    fn take(from: &mut Decoder, _: &Scope) -> Answer<Vec<T>> {
        let count = from.word();
        if count > u64::from(REPLY_BYTES_MAX) / size_of::<T>() as u64 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        Ok(vec![T::new_zeroed(); usize::from_word(count)])
    }
    fn c(slot: &mut Vec<T>) -> *mut T {
        slot.as_mut_ptr()
    }
    fn finish(slot: Vec<T>, scope: &Scope, to: &mut Encoder) -> Answer {
        let told: Answer<Vec<T>> = slot.into_iter().map(|element| element.tell(scope.handles)).collect();
        to.bytes(told?.as_bytes());
        Ok(())
    }
}

impl<T: Element> HostArg for InOutSlice<T> {
    type Slot = Vec<T>;
    fn take(from: &mut Decoder, scope: &Scope) -> Answer<Vec<T>> {
        <InSlice<T> as HostArg>::take(from, scope)
    }
    fn c(slot: &mut Vec<T>) -> *mut T {
        slot.as_mut_ptr()
    }
    fn finish(slot: Vec<T>, scope: &Scope, to: &mut Encoder) -> Answer {
        <OutSlice<T> as HostArg>::finish(slot, scope, to)
    }
}

impl<T: Native> HostArg for Out<T> {
    type Slot = T;
    fn take(_: &mut Decoder, _: &Scope) -> Answer<T> {
        Ok(T::from_word(0))
    }
    fn c(slot: &mut T) -> *mut T {
        slot
    }
    fn finish(slot: T, scope: &Scope, to: &mut Encoder) -> Answer {
        to.word(slot.tell(scope.handles)?.to_word());
        Ok(())
    }
}

impl<T: Native> HostArg for OutOpt<T> {
    type Slot = (bool, T);
    fn take(from: &mut Decoder, _: &Scope) -> Answer<(bool, T)> {
        Ok((from.word() != 0, T::from_word(0)))
    }
    fn c((wanted, value): &mut (bool, T)) -> *mut T {
        if *wanted { value } else { std::ptr::null_mut() }
    }
    fn finish((_, value): (bool, T), _: &Scope, to: &mut Encoder) -> Answer {
        to.word(value.to_word());
        Ok(())
    }
}

/// A NUL-terminated string in a frame.
pub(super) fn take_string(from: &mut Decoder) -> Answer<CString> {
    let bytes = from.bytes();
    match CStr::from_bytes_with_nul(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => {
            from.fail();
            Err(CUDA_ERROR_INVALID_VALUE)
        }
    }
}

impl HostArg for InStr {
    type Slot = CString;
    fn take(from: &mut Decoder, _: &Scope) -> Answer<CString> {
        take_string(from)
    }
    fn c(slot: &mut CString) -> *const c_char {
        slot.as_ptr()
    }
}

/// Whether objects of a type belong to a device and not to a context.
fn outlives_context<H: Handle>() -> bool {
    matches!(
        H::TYPE,
        CUmemoryPool::TYPE | CUmemGenericAllocationHandle::TYPE | CUgreenCtx::TYPE | CUdevResourceDesc::TYPE
    )
}

/// Whether others can be part of objects of a type, and end with them.
fn has_parts<H: Handle>() -> bool {
    matches!(
        H::TYPE,
        CUmodule::TYPE
            | CUlibrary::TYPE
            | CUgraph::TYPE
            | CUgraphNode::TYPE
            | CUmipmappedArray::TYPE
            | CUgreenCtx::TYPE
    )
}

impl<H: Handle + Word> HostArg for New<H> {
    type Slot = (H, H);
    fn take(from: &mut Decoder, scope: &Scope) -> Answer<(H, H)> {
        let id = H::from_word(from.word());
        scope.handles.check_new(id)?;
        Ok((id, H::from_number(0)))
    }
    fn c((_, native): &mut (H, H)) -> *mut H {
        native
    }
    fn finish((id, native): (H, H), scope: &Scope, _: &mut Encoder) -> Answer {
        let context = if outlives_context::<H>() { 0 } else { scope.context };
        scope.handles.insert(id, native, Belongs { context, parent: 0 })
    }
}

impl<H: Handle + Word> HostArg for Del<H> {
    type Slot = (H, H);
    fn take(from: &mut Decoder, scope: &Scope) -> Answer<(H, H)> {
        let id = H::from_word(from.word());
        if id.number() <= 2 {
            return Err(CUDA_ERROR_INVALID_HANDLE);
        }
        Ok((id, scope.handles.resolve(id)?))
    }
    fn c((_, native): &mut (H, H)) -> H {
        *native
    }
    fn finish((id, _): (H, H), scope: &Scope, _: &mut Encoder) -> Answer {
        scope.handles.remove(id);
        if has_parts::<H>() {
            scope.handles.forget_parent(id.number());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_with_pointers_in_them_are_refused() {
        let handles = Handles::new();
        for id in [7, 12, 13] {
            assert_eq!(CUlaunchAttributeID(id).resolve(&handles), Err(CUDA_ERROR_NOT_SUPPORTED));
        }
        assert_eq!(CU_LAUNCH_ATTRIBUTE_COOPERATIVE.resolve(&handles), Ok(CU_LAUNCH_ATTRIBUTE_COOPERATIVE));
    }
}
