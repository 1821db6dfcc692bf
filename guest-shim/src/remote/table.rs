//! One sending function for every row that is `call`, `post` or `wrap`.

use paravane_protocol::arg::*;
use paravane_protocol::cuda_types::*;
use paravane_protocol::opcode;

use super::SendArg;
use crate::boundary::Answer;
use crate::connection::with_ring;

macro_rules! count {
    () => {
        1
    };
    ($len:expr) => {
        $len
    };
}

macro_rules! sending {
    (local $name:ident $arguments:tt) => {};
    (custom $name:ident $arguments:tt) => {};
    (wrap $name:ident $arguments:tt) => { sending! { call $name $arguments } };
    (call $name:ident ($($arg:ident: $kind:ty $([$len:expr])?),*)) => {
        #[allow(clippy::too_many_arguments, reason = "CUDA's prototypes")]
        pub(crate) fn $name($($arg: <$kind as Arg>::C),*) -> Answer {
            let answer = with_ring(|ring| {
                ring.call(
                    opcode::$name,
                    |_to| {
                        $(<$kind as SendArg>::encode(&$arg, count!($($len)?), _to)?;)*
                        Ok(())
                    },
                    |_from| {
                        $(<$kind as SendArg>::decode(&$arg, count!($($len)?), _from)?;)*
                        Ok(())
                    },
                )
            })
            .and_then(|decoded| decoded);
            $(<$kind as SendArg>::settle(&$arg, answer.is_ok());)*
            answer
        }
    };
    (post $name:ident ($($arg:ident: $kind:ty $([$len:expr])?),*)) => {
        pub(crate) fn $name($($arg: <$kind as Arg>::C),*) -> Answer {
            crate::state::mode::post_or_call(opcode::$name, |_to| {
                $(<$kind as SendArg>::encode(&$arg, count!($($len)?), _to)?;)*
                Ok(())
            })
        }
    };
}

macro_rules! rows {
    ($($opcode:literal $verb:ident fn $name:ident($($arg:ident: $kind:ty $([$len:expr])?),*) $(+ $variant:ident)?;)*) => {
        $(sending! { $verb $name ($($arg: $kind $([$len])?),*) })*
    };
}
paravane_protocol::cuda_api!(rows);
