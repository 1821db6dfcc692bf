//! Events that other processes may have been given handles of.

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::custom;
use crate::remote::table;

pub(crate) fn cuEventDestroy_v2(event: CUevent) -> Answer {
    table::cuEventDestroy_v2(event)?;
    custom::end_share(event.0)
}
