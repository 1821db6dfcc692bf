//! What ends a kernel: which rule it broke, where, and the CUresult that the next synchronise of
//! the context answers with.

/// The rule that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// An access outside every allocation.
    IllegalAddress,
    /// An address that is no multiple of the access's size.
    MisalignedAddress,
    /// An instruction that this driver does not execute.
    IllegalInstruction,
    /// `assert` in a kernel.
    Assert,
    /// `trap`, or a barrier that can never complete.
    LaunchFailed,
    /// Deeper calls or more local memory than a thread has.
    StackOverflow,
}

/// Where and why a kernel ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: kernel `{kernel}`, PTX line {line}, CTA ({},{},{}), thread ({},{},{}), lane {lane}, address {address:#x}",
    cta[0], cta[1], cta[2], thread[0], thread[1], thread[2])]
pub struct Fault {
    pub kind: FaultKind,
    pub what: String,
    pub kernel: String,
    /// Line of the PTX text.
    pub line: u32,
    pub lane: u32,
    /// The address of a failed access, else 0.
    pub address: u64,
    pub cta: [u32; 3],
    pub thread: [u32; 3],
}
