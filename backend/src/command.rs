//! The only parser of what a guest puts on the virtqueues: copied bytes become
//! a [`Command`] with everything about its own shape checked. What needs the
//! device's state (does the resource exist?) is `process.rs`'s to judge.
#![deny(clippy::indexing_slicing)]

use paravane_protocol::limits::{ENTRIES_MAX, PIECES_MAX};
use paravane_protocol::virtio_gpu::{self as spec, CtrlHdr, MemEntry, ctrl};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// What makes bytes no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Fewer than 24 bytes.
    #[error("command shorter than its header")]
    Header,
    /// Fewer bytes than the command's structure.
    #[error("command {kind:#x} is cut short")]
    Body {
        /// The command's number.
        kind: u32,
    },
    /// A count claims more than the bytes that are there, or than a limit.
    #[error("command {kind:#x}: a count of {count} is over what is there or allowed")]
    Count {
        /// The command's number.
        kind: u32,
        /// The claim.
        count: u32,
    },
    /// Nothing that the specification names.
    #[error("unknown command {kind:#x}")]
    Unknown {
        /// The command's number.
        kind: u32,
    },
}

/// A picture that a guest wants, in 2D or 3D form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Number of the new resource.
    pub resource: u32,
    /// Pixel format, or Paravane's mark.
    pub format: u32,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

impl From<&spec::ResourceCreate3d> for Picture {
    fn from(wanted: &spec::ResourceCreate3d) -> Self {
        let [resource, format, width, height] =
            [wanted.resource_id, wanted.format, wanted.width, wanted.height].map(|word| word.get());
        Self { resource, format, width, height }
    }
}

/// A rectangle in pixels, widened so that sums cannot overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// Left edge.
    pub x: u64,
    /// Upper edge.
    pub y: u64,
    /// Width.
    pub width: u64,
    /// Height.
    pub height: u64,
}

impl From<spec::Rect> for Rect {
    fn from(r: spec::Rect) -> Self {
        let [x, y, width, height] = [r.x, r.y, r.width, r.height].map(|v| u64::from(v.get()));
        Self { x, y, width, height }
    }
}

impl Rect {
    /// Whether all of it lies in a picture of this size.
    pub fn within(&self, width: u32, height: u32) -> bool {
        self.x + self.width <= u64::from(width) && self.y + self.height <= u64::from(height)
    }

    /// The smallest rectangle around both.
    pub fn union(&self, other: &Self) -> Self {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let right = (self.x + self.width).max(other.x + other.width);
        let bottom = (self.y + self.height).max(other.y + other.height);
        Self { x, y, width: right - x, height: bottom - y }
    }

    /// What lies in both, if anything does.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let (x, y) = (self.x.max(other.x), self.y.max(other.y));
        let width = (self.x + self.width).min(other.x + other.width).checked_sub(x)?;
        let height = (self.y + self.height).min(other.y + other.height).checked_sub(y)?;
        (width > 0 && height > 0).then_some(Self { x, y, width, height })
    }
}

/// Where a cursor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// The scanout.
    pub scanout: u32,
    /// Pixels from the left.
    pub x: u32,
    /// Pixels from the top.
    pub y: u32,
    /// Its new picture (0 hides it) and the hot spot in it; `None`: as before.
    pub update: Option<(u32, u32, u32)>,
}

/// A run of guest pages: guest physical address and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Guest physical address.
    pub addr: u64,
    /// Bytes.
    pub bytes: u64,
}

/// One command of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Which displays are there?
    GetDisplayInfo,
    /// What can a display do?
    GetEdid { scanout: u32 },
    /// Which capset is the n-th?
    GetCapsetInfo { index: u32 },
    /// What is in a capset?
    GetCapset { id: u32, version: u32 },
    /// A 2D resource.
    Create2d(Picture),
    /// A 3D resource, or Paravane's.
    Create3d(spec::ResourceCreate3d),
    /// A blob, and the pages of one that is of the guest's memory.
    CreateBlob { blob: spec::ResourceCreateBlob, entries: Vec<Entry> },
    /// The guest is to see a blob of the host's memory there in the window.
    MapBlob { resource: u32, offset: u64 },
    /// No more.
    UnmapBlob { resource: u32 },
    /// Forget a resource.
    Unref { resource: u32 },
    /// These are the resource's pages.
    AttachBacking { resource: u32, entries: Vec<Entry> },
    /// The pages are the guest's again.
    DetachBacking { resource: u32 },
    /// Show a resource; 0 shows nothing.
    SetScanout { scanout: u32, resource: u32, rect: Rect },
    /// Show a blob; 0 shows nothing.
    SetScanoutBlob { scanout: u32, resource: u32, rect: Rect, layout: BlobLayout },
    /// Put on the screen what has changed.
    Flush { resource: u32, rect: Rect },
    /// Guest pages to host picture; on a channel a doorbell.
    TransferTo2d { resource: u32, offset: u64, rect: Rect },
    /// The same in 3D.
    TransferTo3d(spec::TransferHost3d),
    /// Host picture to guest pages.
    TransferFrom3d(spec::TransferHost3d),
    /// A context for 3D commands; `capset` 0 is the default. Linux names it by the
    /// program that it is for.
    CtxCreate { capset: u32, program: String },
    /// Forget a context.
    CtxDestroy,
    /// The context may use the resource.
    CtxAttach { resource: u32 },
    /// No more.
    CtxDetach { resource: u32 },
    /// 3D commands, or a doorbell.
    Submit3d { body: Vec<u8> },
    /// Move or change the cursor.
    Cursor(Pointer),
    /// Give a resource a name that other devices know.
    AssignUuid { resource: u32 },
}

/// How a picture lies in a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobLayout {
    /// Pixel format.
    pub format: u32,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Bytes from row to row.
    pub stride: u32,
    /// First byte.
    pub offset: u32,
}

/// The header of a command, and the command or what is wrong with it. A header
/// that is there is returned in either case, so that the answer can name its
/// fence.
pub fn parse(bytes: &[u8]) -> (Option<CtrlHdr>, Result<Command, Malformed>) {
    let Ok((header, body)) = CtrlHdr::read_from_prefix(bytes) else {
        return (None, Err(Malformed::Header));
    };
    (Some(header), Body { kind: header.kind.get(), bytes: body }.command())
}

/// What follows the header.
struct Body<'a> {
    kind: u32,
    bytes: &'a [u8],
}

/// What a context is named by.
fn program(of: &spec::CtxCreate) -> String {
    let named = of.debug_name.get(..of.nlen.get() as usize).unwrap_or(&of.debug_name);
    let text = named.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

impl Body<'_> {
    fn command(&self) -> Result<Command, Malformed> {
        match self.kind {
            ctrl::GET_DISPLAY_INFO => Ok(Command::GetDisplayInfo),
            ctrl::GET_EDID => {
                let (body, _) = self.read::<spec::GetEdid>()?;
                Ok(Command::GetEdid { scanout: body.scanout.get() })
            }
            ctrl::GET_CAPSET_INFO => {
                let (body, _) = self.read::<spec::GetCapsetInfo>()?;
                Ok(Command::GetCapsetInfo { index: body.capset_index.get() })
            }
            ctrl::GET_CAPSET => {
                let (body, _) = self.read::<spec::GetCapset>()?;
                let (id, version) = (body.capset_id.get(), body.capset_version.get());
                Ok(Command::GetCapset { id, version })
            }
            ctrl::RESOURCE_CREATE_2D..=ctrl::TRANSFER_TO_HOST_2D
            | ctrl::RESOURCE_ATTACH_BACKING
            | ctrl::RESOURCE_DETACH_BACKING
            | ctrl::RESOURCE_CREATE_BLOB
            | ctrl::SET_SCANOUT_BLOB => self.command_2d(),
            ctrl::CTX_CREATE..=ctrl::SUBMIT_3D => self.command_3d(),
            ctrl::UPDATE_CURSOR | ctrl::MOVE_CURSOR => {
                let (body, _) = self.read::<spec::UpdateCursor>()?;
                let [scanout, x, y, resource, hot_x, hot_y] =
                    [body.scanout_id, body.x, body.y, body.resource_id, body.hot_x, body.hot_y].map(|word| word.get());
                let update = (self.kind == ctrl::UPDATE_CURSOR).then_some((resource, hot_x, hot_y));
                Ok(Command::Cursor(Pointer { scanout, x, y, update }))
            }
            ctrl::RESOURCE_ASSIGN_UUID => Ok(Command::AssignUuid { resource: self.resource()? }),
            ctrl::RESOURCE_MAP_BLOB => {
                let (body, _) = self.read::<spec::ResourceMapBlob>()?;
                Ok(Command::MapBlob { resource: body.resource_id.get(), offset: body.offset.get() })
            }
            ctrl::RESOURCE_UNMAP_BLOB => Ok(Command::UnmapBlob { resource: self.resource()? }),
            kind => Err(Malformed::Unknown { kind }),
        }
    }

    fn command_2d(&self) -> Result<Command, Malformed> {
        match self.kind {
            ctrl::RESOURCE_CREATE_2D => {
                let (body, _) = self.read::<spec::ResourceCreate2d>()?;
                Ok(Command::Create2d(Picture {
                    resource: body.resource_id.get(),
                    format: body.format.get(),
                    width: body.width.get(),
                    height: body.height.get(),
                }))
            }
            ctrl::RESOURCE_UNREF => Ok(Command::Unref { resource: self.resource()? }),
            ctrl::SET_SCANOUT => {
                let (body, _) = self.read::<spec::SetScanout>()?;
                let (scanout, resource) = (body.scanout_id.get(), body.resource_id.get());
                Ok(Command::SetScanout { scanout, resource, rect: body.r.into() })
            }
            ctrl::RESOURCE_FLUSH => {
                let (body, _) = self.read::<spec::ResourceFlush>()?;
                Ok(Command::Flush { resource: body.resource_id.get(), rect: body.r.into() })
            }
            ctrl::TRANSFER_TO_HOST_2D => {
                let (body, _) = self.read::<spec::TransferToHost2d>()?;
                let (resource, offset) = (body.resource_id.get(), body.offset.get());
                Ok(Command::TransferTo2d { resource, offset, rect: body.r.into() })
            }
            ctrl::RESOURCE_ATTACH_BACKING => {
                let (body, rest) = self.read::<spec::ResourceAttachBacking>()?;
                let entries = self.entries(rest, body.nr_entries.get())?;
                Ok(Command::AttachBacking { resource: body.resource_id.get(), entries })
            }
            ctrl::RESOURCE_DETACH_BACKING => {
                Ok(Command::DetachBacking { resource: self.resource()? })
            }
            ctrl::RESOURCE_CREATE_BLOB => {
                let (blob, rest) = self.read::<spec::ResourceCreateBlob>()?;
                let entries = self.entries(rest, blob.nr_entries.get())?;
                Ok(Command::CreateBlob { blob, entries })
            }
            ctrl::SET_SCANOUT_BLOB => {
                let (body, _) = self.read::<spec::SetScanoutBlob>()?;
                let ([stride, ..], [offset, ..]) = (body.strides, body.offsets);
                Ok(Command::SetScanoutBlob {
                    scanout: body.scanout_id.get(),
                    resource: body.resource_id.get(),
                    rect: body.r.into(),
                    layout: BlobLayout {
                        format: body.format.get(),
                        width: body.width.get(),
                        height: body.height.get(),
                        stride: stride.get(),
                        offset: offset.get(),
                    },
                })
            }
            kind => Err(Malformed::Unknown { kind }),
        }
    }

    fn command_3d(&self) -> Result<Command, Malformed> {
        match self.kind {
            ctrl::CTX_CREATE => {
                let (body, _) = self.read::<spec::CtxCreate>()?;
                Ok(Command::CtxCreate { capset: body.context_init.get() & 0xff, program: program(&body) })
            }
            ctrl::CTX_DESTROY => Ok(Command::CtxDestroy),
            ctrl::CTX_ATTACH_RESOURCE => Ok(Command::CtxAttach { resource: self.resource()? }),
            ctrl::CTX_DETACH_RESOURCE => Ok(Command::CtxDetach { resource: self.resource()? }),
            ctrl::RESOURCE_CREATE_3D => {
                let (body, _) = self.read::<spec::ResourceCreate3d>()?;
                Ok(Command::Create3d(body))
            }
            ctrl::TRANSFER_TO_HOST_3D => {
                let (body, _) = self.read::<spec::TransferHost3d>()?;
                Ok(Command::TransferTo3d(body))
            }
            ctrl::TRANSFER_FROM_HOST_3D => {
                let (body, _) = self.read::<spec::TransferHost3d>()?;
                Ok(Command::TransferFrom3d(body))
            }
            ctrl::SUBMIT_3D => {
                let (body, rest) = self.read::<spec::Submit3d>()?;
                let count = body.size.get();
                let body = rest.get(..count as usize);
                let body = body.ok_or(Malformed::Count { kind: self.kind, count })?;
                Ok(Command::Submit3d { body: body.to_vec() })
            }
            kind => Err(Malformed::Unknown { kind }),
        }
    }

    /// The structure at the start, and what follows it.
    fn read<T>(&self) -> Result<(T, &[u8]), Malformed>
    where
        T: FromBytes + Immutable + KnownLayout + Unaligned,
    {
        T::read_from_prefix(self.bytes).map_err(|_| Malformed::Body { kind: self.kind })
    }

    fn resource(&self) -> Result<u32, Malformed> {
        Ok(self.read::<spec::ResourceRef>()?.0.resource_id.get())
    }

    /// Reads as many entries as claimed, if so many are there. Neighbours that
    /// touch become one.
    fn entries(&self, rest: &[u8], count: u32) -> Result<Vec<Entry>, Malformed> {
        let over = Malformed::Count { kind: self.kind, count };
        if count > PIECES_MAX {
            return Err(over);
        }
        let (raw, _) =
            <[MemEntry]>::ref_from_prefix_with_elems(rest, count as usize).map_err(|_| over)?;
        let mut entries: Vec<Entry> = Vec::new();
        for entry in raw {
            let (addr, bytes) = (entry.addr.get(), u64::from(entry.length.get()));
            match entries.last_mut() {
                Some(last) if last.addr.checked_add(last.bytes) == Some(addr) => {
                    last.bytes += bytes;
                }
                _ => entries.push(Entry { addr, bytes }),
            }
        }
        Ok(entries)
    }
}

const _: () = assert!(PIECES_MAX as usize <= ENTRIES_MAX);

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
