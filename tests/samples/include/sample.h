/* What every sample does around its computation: find its PTX, check each call, print one verdict. */
#ifndef PARAVANE_SAMPLES_SAMPLE_H
#define PARAVANE_SAMPLES_SAMPLE_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cuda.h>

/* Defined by each program before it includes this header. */
static const char sample_name[] = SAMPLE_NAME;

__attribute__((noreturn, format(printf, 1, 2))) static inline void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("FAIL %s: ", sample_name);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    exit(1);
}

__attribute__((format(printf, 1, 2))) static inline int pass(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("PASS %s: ", sample_name);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    return 0;
}

static inline const char *error_name(CUresult error) {
    const char *name = "an unknown CUresult";
    cuGetErrorName(error, &name);
    return name;
}

/* Ends the program unless `call` answers `wanted`. */
static inline void expect(CUresult wanted, CUresult got, const char *call) {
    if (got != wanted)
        fail("%s answered %s (%d)", call, error_name(got), (int)got);
}

#define CHECK(call) expect(CUDA_SUCCESS, (call), #call)
#define CHECK_FAILS(error, call) expect((error), (call), #call)

/* The bytes of `directory of this program`/`name`, with a NUL after them. */
static inline char *read_beside(const char *name) {
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length < 0)
        fail("cannot read /proc/self/exe");
    path[length] = '\0';
    char *slash = strrchr(path, '/');
    snprintf(slash + 1, sizeof path - (size_t)(slash + 1 - path), "%s", name);

    FILE *file = fopen(path, "rb");
    if (!file)
        fail("cannot open %s", path);
    fseek(file, 0, SEEK_END);
    long bytes = ftell(file);
    rewind(file);
    char *data = calloc((size_t)bytes + 1, 1);
    if (!data || fread(data, 1, (size_t)bytes, file) != (size_t)bytes)
        fail("cannot read %s", path);
    fclose(file);
    return data;
}

/* Loads SAMPLE_NAME.ptx from beside the program into the current context. */
static inline CUmodule load_module(void) {
    char name[64];
    snprintf(name, sizeof name, "%s.ptx", sample_name);
    char *image = read_beside(name);
    CUmodule module;
    CHECK(cuModuleLoadData(&module, image));
    free(image);
    return module;
}

static inline CUdevice first_device(void) {
    CHECK(cuInit(0));
    int count;
    CHECK(cuDeviceGetCount(&count));
    if (count < 1)
        fail("cuDeviceGetCount answered %d", count);
    CUdevice device;
    CHECK(cuDeviceGet(&device, 0));
    return device;
}

/* The same sequence of numbers on every machine. */
static inline uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static inline unsigned blocks_for(unsigned count, unsigned block) { return (count + block - 1) / block; }

#endif
