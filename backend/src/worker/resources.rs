//! Descriptions of a device's resources (CUdevResource). libcuda keeps in them what only it knows, and
//! takes them back by value: so the guest holds a name in place of that, and libcuda gets its own again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::RESOURCES_KEPT_MAX;
use zerocopy::IntoBytes;

use super::libcuda::Answer;

/// What one guest process was told of.
#[derive(Default)]
pub(super) struct Resources(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    all: Vec<CUdevResource>,
    /// Their names, which are their places counted from 1.
    names: HashMap<Vec<u8>, u64>,
}

impl Resources {
    /// The guest's copy of what libcuda has described.
    pub(super) fn keep(&self, native: CUdevResource) -> Answer<CUdevResource> {
        if native.kind == CU_DEV_RESOURCE_TYPE_INVALID.0 {
            return Ok(CUdevResource::default());
        }
        // Where the next one lies is this call's matter.
        let native = CUdevResource { next: 0, ..native };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.names.get(native.as_bytes()).copied();
        let name = match known {
            Some(name) => name,
            None if kept.all.len() >= RESOURCES_KEPT_MAX => return Err(CUDA_ERROR_OUT_OF_MEMORY),
            None => {
                kept.all.push(native);
                let name = kept.all.len() as u64;
                kept.names.insert(native.as_bytes().to_vec(), name);
                name
            }
        };
        Ok(CUdevResource::named(native.kind, name, native.value))
    }

    /// What libcuda described under the name in a guest's copy. Of a workqueue's configuration the guest
    /// may change all but the device, or write one of its own; of multiprocessors nothing.
    pub(super) fn find(&self, told: CUdevResource) -> Answer<CUdevResource> {
        let kind = CUdevResourceType(told.kind);
        let is_known = [CU_DEV_RESOURCE_TYPE_SM, CU_DEV_RESOURCE_TYPE_WORKQUEUE_CONFIG, CU_DEV_RESOURCE_TYPE_WORKQUEUE];
        if !is_known.contains(&kind) {
            return Err(CUDA_ERROR_INVALID_RESOURCE_TYPE);
        }
        let is_config = kind == CU_DEV_RESOURCE_TYPE_WORKQUEUE_CONFIG;
        let mut native = match told.name() {
            0 if is_config => CUdevResource::named(told.kind, 0, told.value),
            name => self.named(name).ok_or(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION)?,
        };
        if native.kind != told.kind {
            return Err(CUDA_ERROR_INVALID_RESOURCE_TYPE);
        }
        let fields = native.value.iter_mut().zip(told.value).take(named_words(kind));
        for (number, (ours, theirs)) in fields.enumerate() {
            if *ours != theirs && !(is_config && number > 0) {
                return Err(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION);
            }
            *ours = theirs;
        }
        Ok(native)
    }

    fn named(&self, name: u64) -> Option<CUdevResource> {
        let place = usize::try_from(name.checked_sub(1)?).ok()?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all.get(place).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn native(kind: CUdevResourceType, value: [u32; 10]) -> CUdevResource {
        CUdevResource { kind: kind.0, inside: [0xabad_1dea; 23], value, next: 0x7fff_0000_1000 }
    }

    #[test]
    fn the_guest_sees_nothing_that_cuda_does_not_name() {
        let resources = Resources::default();
        let all = [7; 10];
        for kind in [CU_DEV_RESOURCE_TYPE_SM, CU_DEV_RESOURCE_TYPE_WORKQUEUE] {
            let told = resources.keep(native(kind, all)).unwrap();
            assert!(!told.inside.contains(&0xabad_1dea) && told.next == 0);
            assert_eq!(told.value.iter().filter(|&&word| word == 7).count(), named_words(kind));
            assert_eq!(resources.keep(native(kind, all)), Ok(told), "told again");
            assert_eq!(resources.find(told), Ok(CUdevResource { next: 0, ..native(kind, all) }));
        }
    }

    #[test]
    fn what_the_guest_changes_or_makes_up_is_refused() {
        let resources = Resources::default();
        let told = resources.keep(native(CU_DEV_RESOURCE_TYPE_SM, [4, 2, 2, 0, 0, 9, 9, 9, 9, 9])).unwrap();
        let refused = Err(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION);
        let mut larger = told;
        larger.value[0] = 400;
        assert_eq!(resources.find(larger), refused);
        assert_eq!(resources.find(CUdevResource { inside: [0; 23], ..told }), refused);
        assert_eq!(resources.find(CUdevResource { inside: [9; 23], ..told }), refused);
        let other = CU_DEV_RESOURCE_TYPE_WORKQUEUE.0;
        assert_eq!(resources.find(CUdevResource { kind: other, ..told }), Err(CUDA_ERROR_INVALID_RESOURCE_TYPE));
        let none = CUdevResource { kind: 7, ..told };
        assert_eq!(resources.find(none), Err(CUDA_ERROR_INVALID_RESOURCE_TYPE));
    }

    #[test]
    fn a_queue_may_be_configured_in_place() {
        let resources = Resources::default();
        let mut told = resources.keep(native(CU_DEV_RESOURCE_TYPE_WORKQUEUE_CONFIG, [0, 8, 0, 0, 0, 0, 0, 0, 0, 0])).unwrap();
        (told.value[1], told.value[2]) = (3, 1);
        let found = resources.find(told).unwrap();
        assert_eq!((found.inside, &found.value[..3]), ([0xabad_1dea; 23], &[0, 3, 1][..]));
        told.value[0] = 1;
        assert_eq!(resources.find(told), Err(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION), "another device");
    }
}
