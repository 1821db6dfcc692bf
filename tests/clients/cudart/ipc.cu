// Two processes share memory and an event: this program starts itself again.
#include "check.h"
#include <cstring>
#include <sys/wait.h>
#include <unistd.h>

struct Ticket {
    cudaIpcMemHandle_t memory;
    cudaIpcEventHandle_t event;
};

__global__ void add(int *x, int value) { x[threadIdx.x] += value; }

static int other(int in)
{
    Ticket ticket;
    EXPECT(read(in, &ticket, sizeof ticket) == (ssize_t)sizeof ticket);
    int *x = nullptr;
    CHECK(cudaIpcOpenMemHandle((void **)&x, ticket.memory, cudaIpcMemLazyEnablePeerAccess));
    cudaEvent_t ready;
    CHECK(cudaIpcOpenEventHandle(&ready, ticket.event));
    CHECK(cudaStreamWaitEvent(0, ready, 0));
    add<<<1, 32>>>(x, 100);
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaEventDestroy(ready));
    CHECK(cudaIpcCloseMemHandle(x));
    return 0;
}

int main(int count, char **arguments)
{
    if (count > 1)
        return other(atoi(arguments[1]));
    int ends[2];
    EXPECT(pipe(ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(ends[1]);
        char number[16];
        snprintf(number, sizeof number, "%d", ends[0]);
        execl("/proc/self/exe", arguments[0], number, (char *)nullptr);
        _exit(9);
    }
    int *x = nullptr;
    CHECK(cudaMalloc(&x, 1 << 20));
    CHECK(cudaMemset(x, 0, 1 << 20));
    cudaEvent_t ready;
    CHECK(cudaEventCreateWithFlags(&ready, cudaEventDisableTiming | cudaEventInterprocess));
    add<<<1, 32>>>(x, 1);
    CHECK(cudaEventRecord(ready, 0));
    Ticket ticket;
    CHECK(cudaIpcGetMemHandle(&ticket.memory, x));
    CHECK(cudaIpcGetEventHandle(&ticket.event, ready));
    EXPECT(write(ends[1], &ticket, sizeof ticket) == (ssize_t)sizeof ticket);
    int status = 0;
    EXPECT(waitpid(child, &status, 0) == child);
    EXPECT(status == 0);
    int values[32];
    CHECK(cudaMemcpy(values, x, sizeof values, cudaMemcpyDeviceToHost));
    EXPECT(values[0] == 101 && values[31] == 101);
    CHECK(cudaFree(x));
    return passed("ipc");
}
