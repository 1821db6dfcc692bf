// Work recorded once and launched often: by capture, and node by node.
#include "check.h"

__global__ void add(int *x, int value) { x[threadIdx.x] += value; }

static void on_host(void *user) { ++*(int *)user; }

int main()
{
    Device<int> x(std::vector<int>(32, 0));
    cudaStream_t stream, side;
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaStreamCreate(&side));
    cudaEvent_t fork, join;
    CHECK(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
    CHECK(cudaEventCreateWithFlags(&join, cudaEventDisableTiming));
    int calls = 0;
    Device<int> y(std::vector<int>(32, 0));

    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    cudaStreamCaptureStatus status;
    CHECK(cudaStreamIsCapturing(stream, &status));
    EXPECT(status == cudaStreamCaptureStatusActive);
    add<<<1, 32, 0, stream>>>(x.at, 1);
    CHECK(cudaEventRecord(fork, stream));
    CHECK(cudaStreamWaitEvent(side, fork, 0));
    add<<<1, 32, 0, side>>>(y.at, 2);
    CHECK(cudaEventRecord(join, side));
    add<<<1, 32, 0, stream>>>(x.at, 10);
    CHECK(cudaStreamWaitEvent(stream, join, 0));
    CHECK(cudaLaunchHostFunc(stream, on_host, &calls));
    cudaGraph_t graph;
    CHECK(cudaStreamEndCapture(stream, &graph));
    EXPECT(x.read()[0] == 0);
    size_t nodes = 0;
    CHECK(cudaGraphGetNodes(graph, nullptr, &nodes));
    EXPECT(nodes == 4);
    cudaGraphExec_t ready;
    CHECK(cudaGraphInstantiateWithFlags(&ready, graph, 0));
    for (int round = 0; round < 10; round++)
        CHECK(cudaGraphLaunch(ready, stream));
    CHECK(cudaStreamSynchronize(stream));
    EXPECT(x.read()[31] == 110 && y.read()[31] == 20 && calls == 10);
    CHECK(cudaGraphExecDestroy(ready));
    CHECK(cudaGraphDestroy(graph));

    CHECK(cudaGraphCreate(&graph, 0));
    int value = 5;
    void *parameters[] = {&x.at, &value};
    cudaKernelNodeParams kernel = {};
    kernel.func = (void *)add;
    kernel.gridDim = 1;
    kernel.blockDim = 32;
    kernel.kernelParams = parameters;
    cudaGraphNode_t set, first, second;
    cudaMemsetParams memset = {};
    memset.dst = x.at;
    memset.elementSize = 4;
    memset.width = 32;
    memset.height = 1;
    memset.value = 100;
    CHECK(cudaGraphAddMemsetNode(&set, graph, nullptr, 0, &memset));
    CHECK(cudaGraphAddKernelNode(&first, graph, &set, 1, &kernel));
    CHECK(cudaGraphAddKernelNode(&second, graph, &first, 1, &kernel));
    CHECK(cudaGraphInstantiateWithFlags(&ready, graph, 0));
    CHECK(cudaGraphLaunch(ready, stream));
    CHECK(cudaStreamSynchronize(stream));
    EXPECT(x.read()[7] == 110);
    value = 20;
    CHECK(cudaGraphExecKernelNodeSetParams(ready, second, &kernel));
    CHECK(cudaGraphLaunch(ready, stream));
    CHECK(cudaStreamSynchronize(stream));
    EXPECT(x.read()[7] == 125);
    CHECK(cudaGraphExecDestroy(ready));
    CHECK(cudaGraphDestroy(graph));
    return passed("graphs");
}
