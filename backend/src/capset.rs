//! Capset 60, the one that this device has: how a guest knows Paravane before
//! it opens a channel.

use paravane_protocol::channel::{CAPSET_ID, capset};
use paravane_protocol::virtio_gpu::{CapsetInfo, ctrl};
use zerocopy::IntoBytes;

use crate::response::{Refusal, Response};

/// Versions of the capset's layout so far.
const VERSION: u32 = 1;

/// Answers GET_CAPSET_INFO.
pub fn info(index: u32) -> Response {
    if index != 0 {
        return Refusal::InvalidParameter.into();
    }
    let bytes = u32::try_from(capset().len()).unwrap_or(0);
    let info = CapsetInfo {
        capset_id: CAPSET_ID.into(),
        capset_max_version: VERSION.into(),
        capset_max_size: bytes.into(),
        ..CapsetInfo::default()
    };
    Response::Data(ctrl::OK_CAPSET_INFO, info.as_bytes().to_vec())
}

/// Answers GET_CAPSET.
pub fn get(id: u32, version: u32) -> Response {
    if id != CAPSET_ID || version > VERSION {
        return Refusal::InvalidParameter.into();
    }
    Response::Data(ctrl::OK_CAPSET, capset().to_vec())
}
