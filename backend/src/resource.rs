//! The resources of one connection: what the guest has created, and the budgets
//! that keep their number and size bounded.
#![deny(clippy::indexing_slicing)]

use std::collections::HashMap;
use std::sync::Arc;

use paravane_protocol::channel::FORMAT_MARK;
use paravane_protocol::limits::{ENTRIES_MAX, PICTURE_BYTES_MAX, PICTURE_SIDE_MAX, RESOURCES_MAX};
use paravane_protocol::virtio_gpu::FORMATS_2D;

use crate::backing::Backing;
use crate::channels::ChannelId;
use crate::command::Picture;
use crate::pixels::Pixels;
use crate::response::Refusal;

/// What a resource is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A 2D picture.
    Picture {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// Their format.
        format: u32,
    },
    /// The renderer's: a texture, a buffer and whatever else virgl has.
    Texture {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// virgl's format; those of pictures have the same numbers.
        format: u32,
    },
    /// A blob of guest pages.
    Blob {
        /// Its length.
        bytes: u64,
    },
    /// The renderer's too: memory of the host that the guest may map.
    HostBlob {
        /// Its length.
        bytes: u64,
    },
    /// A Paravane channel, once a handshake has been tried.
    Channel {
        /// The channel, when there is a worker for it.
        id: Option<ChannelId>,
    },
    /// An area of a channel.
    Area {
        /// Its channel's token.
        token: u64,
        /// Its index in the channel.
        index: u16,
    },
}

impl Kind {
    /// Paravane's mark in the format makes a channel or an area; `None`: it is
    /// somebody else's resource.
    pub fn marked(picture: &Picture) -> Option<Result<Self, Refusal>> {
        if picture.format & 0xffff_0000 != FORMAT_MARK {
            return None;
        }
        let [low, high, ..] = picture.format.to_le_bytes();
        let index = u16::from_le_bytes([low, high]);
        Some(match (index, picture.width, picture.height) {
            (0, 1, 1) => Ok(Self::Channel { id: None }),
            (0, ..) => Err(Refusal::InvalidParameter),
            (index, low, high) => {
                Ok(Self::Area { token: u64::from(high) << 32 | u64::from(low), index })
            }
        })
    }

    /// A 2D picture, if it has a 2D format and a size.
    pub fn picture(picture: &Picture) -> Result<Self, Refusal> {
        let &Picture { format, width, height, .. } = picture;
        let sides = 1..=PICTURE_SIDE_MAX;
        if !FORMATS_2D.contains(&format) || !sides.contains(&width) || !sides.contains(&height) {
            return Err(Refusal::InvalidParameter);
        }
        Ok(Self::Picture { width, height, format })
    }

    fn picture_bytes(&self) -> u64 {
        match *self {
            Self::Picture { width, height, .. } => u64::from(width) * u64::from(height) * 4,
            _ => 0,
        }
    }
}

/// One resource.
#[derive(Debug)]
pub struct Resource {
    /// What it is.
    pub kind: Kind,
    /// Its pages, when they are attached.
    pub backing: Option<Arc<Backing>>,
    /// What has been transferred to a picture.
    pub pixels: Option<Pixels>,
}

/// All resources of a connection.
#[derive(Debug, Default)]
pub struct Resources {
    by_id: HashMap<u32, Resource>,
    entries: usize,
    picture_bytes: u64,
}

impl Resources {
    /// Adds a resource without pages.
    pub fn create(&mut self, id: u32, kind: Kind) -> Result<(), Refusal> {
        if id == 0 || self.by_id.contains_key(&id) {
            return Err(Refusal::InvalidResource);
        }
        let picture_bytes = self.picture_bytes + kind.picture_bytes();
        if self.by_id.len() >= RESOURCES_MAX || picture_bytes > PICTURE_BYTES_MAX {
            return Err(Refusal::OutOfMemory);
        }
        self.picture_bytes = picture_bytes;
        self.by_id.insert(id, Resource { kind, backing: None, pixels: None });
        Ok(())
    }

    /// The resource of that number.
    pub fn get(&self, id: u32) -> Result<&Resource, Refusal> {
        self.by_id.get(&id).ok_or(Refusal::InvalidResource)
    }

    /// The host's copy of a picture, black at first.
    pub fn pixels(&mut self, id: u32) -> Option<&mut Pixels> {
        let resource = self.by_id.get_mut(&id)?;
        let Kind::Picture { width, height, .. } = resource.kind else { return None };
        Some(resource.pixels.get_or_insert_with(|| Pixels::new(width, height)))
    }

    /// Notes the outcome of a handshake, or that the channel is gone.
    pub fn set_channel(&mut self, resource: u32, channel: Option<ChannelId>) {
        if let Some(Resource { kind: Kind::Channel { id }, .. }) = self.by_id.get_mut(&resource) {
            *id = channel;
        }
    }

    /// Gives a resource its pages. It must not have any.
    pub fn attach(&mut self, id: u32, backing: Arc<Backing>) -> Result<(), Refusal> {
        let resource = self.by_id.get_mut(&id).ok_or(Refusal::InvalidResource)?;
        if resource.backing.is_some() {
            return Err(Refusal::Unspecified);
        }
        let entries = self.entries + backing.entries().len();
        if entries > ENTRIES_MAX {
            return Err(Refusal::OutOfMemory);
        }
        self.entries = entries;
        resource.backing = Some(backing);
        Ok(())
    }

    /// Takes a resource's pages away, if it has any.
    pub fn detach(&mut self, id: u32) -> Result<(), Refusal> {
        let resource = self.by_id.get_mut(&id).ok_or(Refusal::InvalidResource)?;
        if let Some(backing) = resource.backing.take() {
            self.entries -= backing.entries().len();
        }
        Ok(())
    }

    /// Forgets a resource.
    pub fn remove(&mut self, id: u32) -> Result<(), Refusal> {
        self.detach(id)?;
        if let Some(resource) = self.by_id.remove(&id) {
            self.picture_bytes -= resource.kind.picture_bytes();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{GuestAddress, GuestMemoryMmap};

    use super::*;
    use crate::command::Entry;

    fn picture(format: u32, width: u32, height: u32) -> Picture {
        Picture { resource: 1, format, width, height }
    }

    #[test]
    fn the_mark_makes_channels_and_areas() {
        let channel = Kind::marked(&picture(FORMAT_MARK, 1, 1));
        assert_eq!(channel, Some(Ok(Kind::Channel { id: None })));
        assert!(matches!(Kind::marked(&picture(FORMAT_MARK, 2, 1)), Some(Err(_))));
        let area = Kind::marked(&picture(FORMAT_MARK | 0xabcd, 0x1111_2222, 0x3333_4444));
        let token = 0x3333_4444_1111_2222;
        assert_eq!(area, Some(Ok(Kind::Area { token, index: 0xabcd })));
        assert_eq!(Kind::marked(&picture(1, 1, 1)), None);
    }

    #[test]
    fn absurd_pictures_are_refused() {
        for (width, height) in [(0, 1), (1, 0), (u32::MAX, 1), (16_385, 16_384)] {
            assert!(Kind::picture(&picture(1, width, height)).is_err());
        }
        assert!(Kind::picture(&picture(5, 8, 8)).is_err());
    }

    #[test]
    fn the_picture_budget_is_given_back() {
        let mut resources = Resources::default();
        let large = Kind::Picture { width: 8192, height: 8192, format: 1 };
        assert_eq!(resources.create(1, large), Ok(()));
        assert_eq!(resources.create(2, large), Ok(()));
        assert_eq!(resources.create(3, large), Err(Refusal::OutOfMemory));
        assert_eq!(resources.remove(1), Ok(()));
        assert_eq!(resources.create(3, large), Ok(()));
        assert_eq!(resources.create(3, large), Err(Refusal::InvalidResource));
        assert_eq!(resources.create(0, large), Err(Refusal::InvalidResource));
    }

    #[test]
    fn pages_are_attached_once() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        let entries = vec![Entry { addr: 0, bytes: 0x1000 }];
        let backing = Arc::new(Backing::new(entries, &memory).unwrap());
        let mut resources = Resources::default();
        resources.create(1, Kind::Blob { bytes: 4096 }).unwrap();
        assert_eq!(resources.attach(1, Arc::clone(&backing)), Ok(()));
        assert_eq!(resources.attach(1, Arc::clone(&backing)), Err(Refusal::Unspecified));
        assert_eq!(resources.detach(1), Ok(()));
        assert_eq!(resources.entries, 0);
        assert_eq!(resources.attach(1, backing), Ok(()));
        assert_eq!(resources.remove(1), Ok(()));
        assert_eq!(resources.entries, 0);
        assert_eq!(resources.remove(1), Err(Refusal::InvalidResource));
    }
}
