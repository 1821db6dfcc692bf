//! What goes back to the guest: a command's outcome as bytes, header included.

use paravane_protocol::virtio_gpu::{self as spec, CtrlHdr, ctrl};
use zerocopy::IntoBytes;

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Refusal {
    /// Not known, not offered, not possible.
    Unspecified = ctrl::ERR_UNSPEC,
    /// Beyond a limit.
    OutOfMemory = ctrl::ERR_OUT_OF_MEMORY,
    /// No such scanout.
    InvalidScanout = ctrl::ERR_INVALID_SCANOUT_ID,
    /// No such resource, or one that is there already.
    InvalidResource = ctrl::ERR_INVALID_RESOURCE_ID,
    /// No such context, or one that is there already.
    InvalidContext = ctrl::ERR_INVALID_CONTEXT_ID,
    /// Something else about the command is wrong.
    InvalidParameter = ctrl::ERR_INVALID_PARAMETER,
}

/// What a command comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Done.
    Done,
    /// Not done.
    Refused(Refusal),
    /// Display info, capset info, capset or EDID: number and body.
    Data(u32, Vec<u8>),
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Response {
    /// The bytes for the guest. The fence of the command is named again.
    pub fn bytes(&self, command: &CtrlHdr) -> Vec<u8> {
        let (kind, body) = match self {
            Self::Done => (ctrl::OK_NODATA, &[][..]),
            Self::Refused(refusal) => (*refusal as u32, &[][..]),
            Self::Data(kind, body) => (*kind, &body[..]),
        };
        let mut header = CtrlHdr { kind: kind.into(), ..CtrlHdr::default() };
        let flags = command.flags.get() & (spec::FLAG_FENCE | spec::FLAG_INFO_RING_IDX);
        if flags & spec::FLAG_FENCE != 0 {
            header.flags = flags.into();
            header.fence_id = command.fence_id;
            header.ctx_id = command.ctx_id;
            header.ring_idx = command.ring_idx;
        }
        [header.as_bytes(), body].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fence_is_named_again() {
        let mut command = CtrlHdr { fence_id: 77.into(), ctx_id: 5.into(), ..CtrlHdr::default() };
        assert_eq!(Response::Done.bytes(&command)[4..], [0; 20]);
        command.flags = 0xff.into();
        command.ring_idx = 3;
        let bytes = Response::Refused(Refusal::Unspecified).bytes(&command);
        assert_eq!(
            bytes,
            [0x00, 0x12, 0, 0, 3, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 3, 0, 0, 0]
        );
    }
}
