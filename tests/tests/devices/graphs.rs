//! A graph of two devices.

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, value_of};

use super::contexts::{Side, read};

/// A capture that goes from one device's stream to the other's and back: each kernel works on its own device's memory.
pub(crate) fn forked(cuda: &Cuda, sides: &[Side; 2]) {
    let words = sides.each_ref().map(|side| side.word(cuda, 50));
    let events = sides.each_ref().map(|side| {
        side.enter(cuda);
        value_of!(cuda.cuEventCreate(CUevent(0), 2))
    });
    let [first, second] = sides;
    first.enter(cuda);
    must!(cuda.cuStreamBeginCapture_v2(first.stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    must!(cuda.cuEventRecord(events[0], first.stream));
    second.enter(cuda);
    must!(cuda.cuStreamWaitEvent(second.stream, events[0], 0));
    assert_eq!(second.launch_add(cuda, words[1]), CUDA_SUCCESS);
    must!(cuda.cuEventRecord(events[1], second.stream));
    first.enter(cuda);
    must!(cuda.cuStreamWaitEvent(first.stream, events[1], 0));
    assert_eq!(first.launch_add(cuda, words[0]), CUDA_SUCCESS);
    let mut graph = CUgraph(0);
    must!(cuda.cuStreamEndCapture(first.stream, &raw mut graph));
    let exec = value_of!(cuda.cuGraphInstantiateWithFlags(CUgraphExec(0), graph, 0));
    for _ in 0..2 {
        must!(cuda.cuGraphLaunch(exec, first.stream));
    }
    must!(cuda.cuStreamSynchronize(first.stream));
    assert_eq!(words.map(|word| read(cuda, word)), [52, 52]);
    must!(cuda.cuGraphExecDestroy(exec));
    must!(cuda.cuGraphDestroy(graph));
    for event in events {
        must!(cuda.cuEventDestroy_v2(event));
    }
    for word in words {
        must!(cuda.cuMemFree_v2(word));
    }
}
