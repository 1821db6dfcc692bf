//! NVML_READ: one function for every row of NVML's table that is read on the
//! host.
#![allow(unsafe_code, reason = "foreign functions")]

use paravane_protocol::arg::*;
use paravane_protocol::cuda_types::*;
use paravane_protocol::nvml_arg::*;
use paravane_protocol::nvml_types::*;

use super::arg::{Element, HostArg, Length};
use crate::worker::dispatch::Command;
use crate::worker::libcuda::Answer;

macro_rules! reading {
    (local $name:ident $arguments:tt) => {};
    (wrap $name:ident $arguments:tt) => { reading! { host $name $arguments } };
    (host $name:ident ($($arg:ident: $kind:ty $([$len:expr])?),*)) => {
        fn $name(command: &mut Command) -> Answer {
            $(let mut $arg = <$kind as HostArg>::take(&mut command.from);)*
            $($(
                let count = u64::try_from($len).unwrap_or(u64::MAX);
                if !$arg.holds(count, <$kind as Element>::BYTES) {
                    command.from.fail();
                }
            )?)*
            command.read_all()?;
            let process = command.thread.process();
            let mut call = || {
                $(<$kind as HostArg>::resolve(&mut $arg, &process)?;)*
                let nvml = process.nvml().ok_or(NVML_ERROR_NOT_SUPPORTED)?;
                let function = nvml.$name.ok_or(NVML_ERROR_NOT_SUPPORTED)?;
                // SAFETY: the table's prototype; pointers are to the slots above,
                // which hold what the lengths beside them say.
                unsafe { function($(<$kind as HostArg>::c(&mut $arg)),*) }.ok()
            };
            let answer = call();
            command.to.word(u64::from(answer.err().unwrap_or(NVML_SUCCESS).0));
            if answer.is_ok() {
                $(<$kind as HostArg>::finish(&$arg, &mut command.to);)*
            }
            Ok(())
        }
    };
}

macro_rules! run {
    (local $name:ident $command:ident) => {{
        $command.thread.broke_protocol("a row of NVML's that is the guest's");
        Err(CUDA_ERROR_INVALID_VALUE)
    }};
    ($verb:ident $name:ident $command:ident) => {
        $name($command)
    };
}

macro_rules! rows {
    ($($number:literal $verb:ident fn $name:ident $arguments:tt;)*) => {
        $(reading! { $verb $name $arguments })*

        /// In: a row's number, its arguments.
        pub(in crate::worker) fn read(command: &mut Command) -> Answer {
            match command.from.word() {
                $($number => run!($verb $name command),)*
                _ => {
                    command.thread.broke_protocol("no row of NVML's");
                    Err(CUDA_ERROR_INVALID_VALUE)
                }
            }
        }
    };
}
paravane_protocol::nvml_api!(rows);
