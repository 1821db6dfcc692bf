// printf in a kernel arrives on the program's own standard output.
#include "check.h"
#include <cstring>
#include <string>
#include <unistd.h>

__global__ void say(int number, double fraction, const char *text)
{
    printf("thread %d says %d %.3f %s\n", threadIdx.x, number, fraction, text ? "yes" : "no");
}

int main()
{
    FILE *file = tmpfile();
    EXPECT(file);
    fflush(stdout);
    int kept = dup(1);
    EXPECT(dup2(fileno(file), 1) == 1);
    say<<<1, 3>>>(42, 2.5, nullptr);
    cudaError_t error = cudaDeviceSynchronize();
    fflush(stdout);
    dup2(kept, 1);
    CHECK(error);
    rewind(file);
    std::string all;
    for (int c; (c = fgetc(file)) != EOF;)
        all += char(c);
    for (const char *line : {"thread 0 says 42 2.500 no\n", "thread 1 says 42 2.500 no\n", "thread 2 says 42 2.500 no\n"})
        EXPECT(all.find(line) != std::string::npos);
    return passed("print");
}
