//! Textures that other devices of the VM may have: each has a UUID that the guest
//! hands on, and the front end asks for what lies under it (QEMU's
//! docs/interop/vhost-user: SHARED_OBJECT_ADD, GET_SHARED_OBJECT).
#![deny(clippy::indexing_slicing)]

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;

use paravane_protocol::limits::SHARED_OBJECTS_MAX;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::fence::Ticket;
use crate::front_end::{Order, Requests};
use crate::response::Refusal;

/// 16 bytes, as RFC 4122 lays them out.
pub type Uuid = [u8; 16];

#[derive(Debug)]
struct Object {
    uuid: Uuid,
    file: OwnedFd,
}

/// The objects of one connection.
#[derive(Debug, Default)]
pub struct Objects {
    requests: Option<Requests>,
    by_resource: HashMap<u32, Object>,
}

/// A random UUID: version 4.
fn random() -> Result<Uuid, Refusal> {
    let mut uuid = [0; 16];
    let read = getrandom(&mut uuid, GetRandomFlags::empty()).map_err(|_| Refusal::Unspecified)?;
    if read != uuid.len() {
        return Err(Refusal::Unspecified);
    }
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut uuid;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    Ok(uuid)
}

impl Objects {
    /// The front end can be asked from now on.
    pub fn open(&mut self, requests: Requests) {
        self.requests = Some(requests);
    }

    /// Whether there is room for this resource's.
    ///
    /// # Errors
    /// There are too many, or no front end to look for them.
    pub fn check(&self, resource: u32) -> Result<(), Refusal> {
        match &self.requests {
            None => Err(Refusal::Unspecified),
            Some(_) if self.by_resource.contains_key(&resource) || self.by_resource.len() < SHARED_OBJECTS_MAX => Ok(()),
            Some(_) => Err(Refusal::OutOfMemory),
        }
    }

    /// Has the front end know of a resource's object, which is this file if the
    /// resource has none yet. The command is answered when it does.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn add(&mut self, resource: u32, file: OwnedFd, ticket: Ticket) -> Result<(), Refusal> {
        self.check(resource)?;
        let requests = self.requests.as_ref().ok_or(Refusal::Unspecified)?;
        let uuid = match self.by_resource.get(&resource) {
            Some(object) => object.uuid,
            None => random()?,
        };
        if !requests.order(Order::Add { uuid, ticket }) {
            return Err(Refusal::Unspecified);
        }
        self.by_resource.entry(resource).or_insert(Object { uuid, file });
        Ok(())
    }

    /// The front end does not take it.
    pub fn is_not_known(&mut self, uuid: Uuid) {
        self.by_resource.retain(|_, object| object.uuid != uuid);
    }

    /// What lies under a UUID.
    pub fn get(&self, uuid: &[u8]) -> Option<File> {
        let object = self.by_resource.values().find(|object| object.uuid == uuid)?;
        object.file.try_clone().ok().map(File::from)
    }

    /// A resource is gone.
    pub fn remove(&mut self, resource: u32) {
        if let Some(object) = self.by_resource.remove(&resource) {
            self.order(Order::Remove(object.uuid));
        }
    }

    /// All are.
    pub fn clear(&mut self) {
        for object in std::mem::take(&mut self.by_resource).into_values() {
            self.order(Order::Remove(object.uuid));
        }
    }

    fn order(&self, order: Order) {
        if let Some(requests) = &self.requests {
            // Else the front end has gone, and knows nothing any more.
            requests.order(order);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_random_ones_of_version_4() {
        let uuids: Vec<Uuid> = (0..64).map(|_| random().unwrap()).collect();
        assert!(uuids.iter().all(|uuid| uuid[6] >> 4 == 4 && uuid[8] >> 6 == 2));
        let distinct: std::collections::HashSet<&Uuid> = uuids.iter().collect();
        assert_eq!(distinct.len(), uuids.len());
    }

    #[test]
    fn without_a_front_end_there_is_no_object() {
        let mut objects = Objects::default();
        assert_eq!(objects.check(1), Err(Refusal::Unspecified));
        assert!(objects.get(&[1; 16]).is_none());
        objects.remove(1);
        objects.clear();
    }
}
