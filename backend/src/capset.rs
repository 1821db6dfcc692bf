//! The capsets that this device has: 60, by which a guest knows Paravane before
//! it opens a channel, and the renderer's for OpenGL.

use paravane_protocol::channel::{CAPSET_ID, capset};
use paravane_protocol::virtio_gpu::{CapsetInfo, ctrl};
use zerocopy::IntoBytes;

use crate::gl::Capset;
use crate::response::{Refusal, Response};

/// Versions of the capset's layout so far.
const VERSION: u32 = 1;

/// Answers GET_CAPSET_INFO.
pub fn info(index: u32, of_gl: &[Capset]) -> Response {
    let others = of_gl.iter().map(|capset| (capset.id, capset.version, capset.data.len()));
    let mut all = std::iter::once((CAPSET_ID, VERSION, capset().len())).chain(others);
    let found = usize::try_from(index).ok().and_then(|index| all.nth(index));
    let Some((id, version, bytes)) = found else { return Refusal::InvalidParameter.into() };
    let info = CapsetInfo {
        capset_id: id.into(),
        capset_max_version: version.into(),
        capset_max_size: u32::try_from(bytes).unwrap_or(0).into(),
        ..CapsetInfo::default()
    };
    Response::Data(ctrl::OK_CAPSET_INFO, info.as_bytes().to_vec())
}

/// Answers GET_CAPSET.
pub fn get(id: u32, version: u32, of_gl: &[Capset]) -> Response {
    if let Some(capset) = of_gl.iter().find(|capset| capset.id == id && version <= capset.version) {
        return Response::Data(ctrl::OK_CAPSET, capset.data.clone());
    }
    if id != CAPSET_ID || version > VERSION {
        return Refusal::InvalidParameter.into();
    }
    Response::Data(ctrl::OK_CAPSET, capset().to_vec())
}
