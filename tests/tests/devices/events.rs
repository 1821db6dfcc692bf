//! Events between devices.

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

use super::contexts::{Side, Words, read};

/// One device's stream waits for the other's; no time is told between them.
pub(crate) fn across(cuda: &Cuda, sides: &[Side; 2]) {
    let [first, second] = sides;
    let word = second.word(cuda, 1);
    let after = value_of!(cuda.cuEventCreate(CUevent(0), 0));
    first.enter(cuda);
    let words = Words::new(cuda);
    let event = value_of!(cuda.cuEventCreate(CUevent(0), 0));
    let [own, other] = [0, 1].map(|at| words.on_device(cuda, at));
    assert_eq!(first.launch_meet(cuda, [own, other]), CUDA_SUCCESS);
    must!(cuda.cuEventRecord(event, first.stream));

    second.enter(cuda);
    must!(cuda.cuStreamWaitEvent(second.stream, event, 0));
    assert_eq!(second.launch_add(cuda, word), CUDA_SUCCESS);
    must!(cuda.cuEventRecord(after, second.stream));
    assert_eq!(result_of!(cuda.cuEventQuery(after)), CUDA_ERROR_NOT_READY, "it came before what it waits for");
    words.set(1, 1);
    must!(cuda.cuEventSynchronize(after));
    must!(cuda.cuEventQuery(event));
    assert_eq!(read(cuda, word), 2);

    let mut milliseconds = 0.0;
    let between = result_of!(cuda.cuEventElapsedTime(&raw mut milliseconds, event, after));
    assert_eq!(between, CUDA_ERROR_INVALID_HANDLE);
    for event in [event, after] {
        must!(cuda.cuEventDestroy_v2(event));
    }
    must!(cuda.cuMemFree_v2(word));
    first.enter(cuda);
    words.end(cuda);
}
