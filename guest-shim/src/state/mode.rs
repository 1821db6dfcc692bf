//! PARAVANE_SYNC=1 makes every posted call an awaited one, so that an error
//! comes back from the call that caused it.

use std::sync::OnceLock;

use paravane_protocol::codec::Encoder;

use crate::boundary::Answer;
use crate::connection::with_ring;

fn synchronous() -> bool {
    static SYNC: OnceLock<bool> = OnceLock::new();
    *SYNC.get_or_init(|| std::env::var_os("PARAVANE_SYNC").is_some_and(|value| value == "1"))
}

/// Sends a command whose failure may surface later.
#[inline]
pub(crate) fn post_or_call(opcode: u16, encode: impl FnOnce(&mut Encoder) -> Answer) -> Answer {
    with_ring(|ring| {
        if synchronous() {
            ring.call(opcode, encode, |_| ())
        } else {
            ring.post(opcode, encode)
        }
    })
}
