//! From opcode to call: made from the table for `call`, `post` and `wrap`
//! rows, handed to `custom` for the rows written by hand, to `internal` for
//! what is no symbol.
#![allow(unsafe_code, reason = "foreign functions")]
#![allow(non_snake_case, reason = "CUDA's names")]

use paravane_protocol::arg::*;
use paravane_protocol::codec::{Decoder, Encoder};
use paravane_protocol::cuda_types::*;
use paravane_protocol::opcode;

use super::arg::HostArg;
use super::libcuda::{Answer, has};
use super::thread::Thread;
use super::{custom, internal, memory};

/// One command on its way.
pub(super) struct Command<'a, 'b> {
    pub(super) thread: &'a mut Thread,
    pub(super) from: Decoder<'b>,
    pub(super) to: Encoder<'b>,
}

impl Command<'_, '_> {
    /// To be called when all arguments are read, before anything is run.
    pub(super) fn read_all(&mut self) -> Answer {
        let rest = std::mem::replace(&mut self.from, Decoder::new(&[]));
        if rest.finish() {
            return Ok(());
        }
        self.thread.broke_protocol("arguments do not fit their opcode");
        Err(CUDA_ERROR_INVALID_VALUE)
    }
}

/// libcuda reads or writes as many elements as a count beside them says.
fn check_len<T>(slice: &[T], count: usize) -> Answer {
    if slice.len() == count { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

macro_rules! handler {
    (local $name:ident $arguments:tt) => {};
    (custom $name:ident $arguments:tt) => {};
    (post $name:ident $arguments:tt) => { handler! { call $name $arguments } };
    (wrap $name:ident $arguments:tt) => { handler! { call $name $arguments } };
    (call cuMemGetInfo_v2 $arguments:tt) => {};
    (call $name:ident ($($arg:ident: $kind:ty $([$len:expr])?),*)) => {
        fn $name(command: &mut Command) -> Answer {
            let process = command.thread.process();
            let _scope = command.thread.scope(&process);
            $(let $arg = <$kind as HostArg>::take(&mut command.from, &_scope);)*
            command.read_all()?;
            $(#[allow(unused_mut)] let mut $arg = $arg?;)*
            $($(check_len(&$arg, $len)?;)?)*
            let function = has(process.lib.$name)?;
            // SAFETY: the table's prototype; pointers are to the slots above.
            unsafe { function($(<$kind as HostArg>::c(&mut $arg)),*) }.ok()?;
            $(<$kind as HostArg>::finish($arg, &_scope, &mut command.to)?;)*
            Ok(())
        }
    };
}

/// Makes `charged!`, which runs a row through the account of memory if it is one
/// of those, and else as it is.
macro_rules! define_charged {
    ($d:tt $($name:ident)*) => {
        macro_rules! charged {
            $(($name $d run:path, $d command:ident) => { memory::$name($d command, $d run) };)*
            ($d other:ident $d run:path, $d command:ident) => { $d run($d command) };
        }
    };
}
memory::charged_rows!(define_charged $);

macro_rules! run {
    (call cuMemGetInfo_v2 $command:ident) => {
        memory::figures($command)
    };
    (call cuDeviceGetDevResource $command:ident) => {
        $command.thread.process_ref().parts.refuse_whole().and_then(|()| cuDeviceGetDevResource($command))
    };
    (local $name:ident $command:ident) => {{
        $command.thread.broke_protocol("opcode of a call that is the guest's");
        Err(CUDA_ERROR_INVALID_VALUE)
    }};
    (custom $name:ident $command:ident) => {
        charged!($name custom::$name, $command)
    };
    ($verb:ident $name:ident $command:ident) => {
        charged!($name $name, $command)
    };
}

macro_rules! rows {
    ($($opcode:literal $verb:ident fn $name:ident $arguments:tt $(+ $variant:ident)?;)*) => {
        $(handler! { $verb $name $arguments })*

        /// Runs one command.
        pub(super) fn dispatch(opcode: u16, command: &mut Command) -> Answer {
            match opcode {
                $(opcode::$name => run!($verb $name command),)*
                other => internal::dispatch(other, command),
            }
        }
    };
}
paravane_protocol::cuda_api!(rows);
