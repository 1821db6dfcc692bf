//! Opcodes by CUDA's names, and names by opcode, both from the table.
#![allow(non_upper_case_globals, reason = "CUDA's names")]

macro_rules! opcodes {
    ($($opcode:literal $verb:ident fn $name:ident($($arg:ident: $kind:ty $([$len:expr])?),*) $(+ $variant:ident)?;)*) => {
        $(
            #[doc = concat!("Opcode of ", stringify!($name), ".")]
            pub const $name: u16 = $opcode;
        )*

        /// The name that belongs to an opcode, CUDA's or an internal one.
        pub fn name(opcode: u16) -> Option<&'static str> {
            match opcode {
                $($opcode => Some(stringify!($name)),)*
                other => crate::internal::name(other),
            }
        }

        /// Every opcode in the table with its name, in the table's order.
        pub const ALL: &[(u16, &str)] = &[$(($opcode, stringify!($name))),*];
    };
}
crate::cuda_api!(opcodes);
