/* Adds two vectors in the primary context, with synchronous copies; then asks for what must be refused. */
#define SAMPLE_NAME "vector_add"
#include "sample.h"

enum { COUNT = 1 << 20, THREADS = 256 };

static void describe(CUdevice device) {
    int version, major, minor, processors, warp;
    size_t bytes;
    char name[128];
    CUuuid uuid, zero = {{0}};
    CHECK(cuDriverGetVersion(&version));
    CHECK(cuDeviceGetName(name, sizeof name, device));
    CHECK(cuDeviceGetUuid(&uuid, device));
    CHECK(cuDeviceTotalMem(&bytes, device));
    CHECK(cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device));
    CHECK(cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device));
    CHECK(cuDeviceGetAttribute(&processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device));
    CHECK(cuDeviceGetAttribute(&warp, CU_DEVICE_ATTRIBUTE_WARP_SIZE, device));
    if (version < 11000 || bytes == 0 || processors < 1 || warp != 32 || memcmp(&uuid, &zero, sizeof uuid) == 0)
        fail("the device describes itself wrongly: CUDA %d, %zu bytes, %d multiprocessors, warps of %d", version, bytes,
             processors, warp);
    printf("device: %s, compute %d.%d, %d multiprocessors, %zu MiB, CUDA %d.%d\n", name, major, minor, processors,
           bytes >> 20, version / 1000, version % 1000 / 10);
}

static void refuses_what_is_wrong(CUmodule module) {
    CUfunction function;
    CUdeviceptr nothing;
    CUdevice device;
    const char *text;
    CHECK_FAILS(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&function, module, "no_such_kernel"));
    CHECK_FAILS(CUDA_ERROR_INVALID_VALUE, cuMemAlloc(&nothing, 0));
    CHECK_FAILS(CUDA_ERROR_INVALID_DEVICE, cuDeviceGet(&device, 4096));
    CHECK(cuGetErrorString(CUDA_ERROR_NOT_FOUND, &text));
    if (strcmp(error_name(CUDA_ERROR_NOT_FOUND), "CUDA_ERROR_NOT_FOUND") != 0 || !*text)
        fail("cuGetErrorName does not know CUDA_ERROR_NOT_FOUND");
}

int main(void) {
    CUdevice device = first_device();
    describe(device);
    CUcontext context, current;
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuCtxGetCurrent(&current));
    if (current != context)
        fail("the current context is not the one that was set");
    CUmodule module = load_module();
    CUfunction function;
    CHECK(cuModuleGetFunction(&function, module, "vector_add"));

    size_t bytes = COUNT * sizeof(float);
    float *a = malloc(bytes), *b = malloc(bytes), *c = calloc(COUNT, sizeof(float));
    uint32_t seed = 1;
    for (int i = 0; i < COUNT; i++) {
        a[i] = (float)next_random(&seed) / 1024.0f;
        b[i] = (float)next_random(&seed) / 4096.0f;
    }
    CUdeviceptr device_a, device_b, device_c;
    CHECK(cuMemAlloc(&device_a, bytes));
    CHECK(cuMemAlloc(&device_b, bytes));
    CHECK(cuMemAlloc(&device_c, bytes));
    CHECK(cuMemcpyHtoD(device_a, a, bytes));
    CHECK(cuMemcpyHtoD(device_b, b, bytes));

    unsigned count = COUNT;
    void *parameters[] = {&device_a, &device_b, &device_c, &count};
    CHECK(cuLaunchKernel(function, blocks_for(COUNT, THREADS * 4), 1, 1, THREADS, 1, 1, 0, NULL, parameters, NULL));
    CHECK(cuCtxSynchronize());
    CHECK(cuMemcpyDtoH(c, device_c, bytes));
    for (int i = 0; i < COUNT; i++)
        if (c[i] != a[i] + b[i])
            fail("element %d is %g, not %g", i, (double)c[i], (double)(a[i] + b[i]));

    refuses_what_is_wrong(module);
    CHECK(cuMemFree(device_a));
    CHECK(cuMemFree(device_b));
    CHECK(cuMemFree(device_c));
    CHECK(cuModuleUnload(module));
    CHECK(cuDevicePrimaryCtxRelease(device));
    free(a);
    free(b);
    free(c);
    return pass("%d sums equal the CPU's", COUNT);
}
