//! The calling thread's stack of contexts. It is the guest's alone: the host
//! thread is told the top of it when a command needs it.

use std::cell::{Cell, RefCell};

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;

thread_local! {
    static TOP: Cell<u64> = const { Cell::new(0) };
    static BELOW: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// The current context's id, 0 for none.
#[inline]
pub(crate) fn number() -> u64 {
    TOP.try_with(Cell::get).unwrap_or(0)
}

/// The current context; CUDA_ERROR_INVALID_CONTEXT for none.
pub(crate) fn context() -> Answer<CUcontext> {
    match number() {
        0 => Err(CUDA_ERROR_INVALID_CONTEXT),
        number => Ok(CUcontext(number)),
    }
}

/// Replaces the top of the stack; NULL empties the top.
pub(crate) fn set(context: CUcontext) {
    if context.0 == 0 {
        let _ = pop();
    } else {
        TOP.set(context.0);
    }
}

/// Makes a context current above the present one.
pub(crate) fn push(context: CUcontext) {
    let above = TOP.replace(context.0);
    BELOW.with_borrow_mut(|below| below.push(above));
}

/// Takes the top off; CUDA_ERROR_INVALID_CONTEXT when there is none.
pub(crate) fn pop() -> Answer<CUcontext> {
    let below = BELOW.with_borrow_mut(Vec::pop).unwrap_or(0);
    match TOP.replace(below) {
        0 => Err(CUDA_ERROR_INVALID_CONTEXT),
        top => Ok(CUcontext(top)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_behaves_as_cuda_says() {
        assert_eq!(context(), Err(CUDA_ERROR_INVALID_CONTEXT));
        push(CUcontext(7));
        push(CUcontext(8));
        set(CUcontext(9));
        assert_eq!(pop(), Ok(CUcontext(9)));
        assert_eq!(context(), Ok(CUcontext(7)));
        set(CUcontext(0));
        assert_eq!(pop(), Err(CUDA_ERROR_INVALID_CONTEXT));
    }
}
