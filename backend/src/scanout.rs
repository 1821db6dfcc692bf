//! The display: what a guest is told of it and what it asks to show. Headless
//! so far: commands are judged as if somebody looked.

use paravane_protocol::virtio_gpu::{DisplayInfo, DisplayOne, EDID_BYTES, Edid, Rect, ctrl};
use zerocopy::IntoBytes;

use crate::edid;
use crate::response::{Refusal, Response};

/// Displays of the device.
pub const SCANOUTS: u32 = 1;

/// What the display shows.
#[derive(Debug, Default)]
pub struct Scanout {
    /// The resource, 0 for none.
    resource: u32,
}

impl Scanout {
    /// Shows another resource, or none.
    pub fn set(&mut self, resource: u32) {
        self.resource = resource;
    }

    /// The resource is gone.
    pub fn forget(&mut self, resource: u32) {
        if self.resource == resource {
            self.resource = 0;
        }
    }
}

/// Refuses a scanout that is not there.
pub fn check(scanout: u32) -> Result<(), Refusal> {
    if scanout < SCANOUTS { Ok(()) } else { Err(Refusal::InvalidScanout) }
}

/// Answers GET_DISPLAY_INFO.
pub fn display_info() -> Response {
    let mut info = DisplayInfo::default();
    let r = Rect { width: edid::WIDTH.into(), height: edid::HEIGHT.into(), ..Rect::default() };
    info.pmodes[0] = DisplayOne { r, enabled: 1.into(), flags: 0.into() };
    Response::Data(ctrl::OK_DISPLAY_INFO, info.as_bytes().to_vec())
}

/// Answers GET_EDID.
pub fn edid(scanout: u32) -> Response {
    if let Err(refusal) = check(scanout) {
        return refusal.into();
    }
    let block = edid::block();
    let mut data = [0; EDID_BYTES];
    for (to, from) in data.iter_mut().zip(block) {
        *to = from;
    }
    let size = u32::try_from(block.len()).unwrap_or(0);
    let edid = Edid { size: size.into(), padding: 0.into(), edid: data };
    Response::Data(ctrl::OK_EDID, edid.as_bytes().to_vec())
}
