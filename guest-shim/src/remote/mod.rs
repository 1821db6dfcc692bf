//! Sending: how each direction of the table's arguments becomes bytes, and the
//! functions made from the rows that send a call and take its reply.

mod arg;
pub(crate) mod table;

pub(crate) use arg::SendArg;
