/* Draws a photograph in ink: image_filter IN.ppm OUT.ppm. The picture travels by 2D copies between packed rows on the host
   and pitched rows on the device, once synchronously and once in a stream. */
#define SAMPLE_NAME "image_filter"
#include "sample.h"

enum { BLOCK = 16, CHANNELS = 3, SIDE_MAX = 16384 };
static const int strength = 60;

struct picture {
    int width, height;
    unsigned char *pixels;
};

static struct picture read_ppm(const char *path) {
    struct picture picture;
    int levels;
    FILE *file = fopen(path, "rb");
    if (!file)
        fail("cannot open %s", path);
    if (fscanf(file, "P6 %d %d %d", &picture.width, &picture.height, &levels) != 3 || fgetc(file) == EOF)
        fail("%s is not a binary PPM picture", path);
    if (picture.width < 1 || picture.height < 1 || picture.width > SIDE_MAX || picture.height > SIDE_MAX || levels != 255)
        fail("%s: %d x %d with %d levels is not a picture this program reads", path, picture.width, picture.height,
             levels);
    size_t bytes = (size_t)picture.width * (size_t)picture.height * CHANNELS;
    picture.pixels = malloc(bytes);
    if (!picture.pixels || fread(picture.pixels, 1, bytes, file) != bytes)
        fail("%s ends early", path);
    fclose(file);
    return picture;
}

static void write_ppm(const char *path, const struct picture *picture) {
    size_t bytes = (size_t)picture->width * (size_t)picture->height * CHANNELS;
    FILE *file = fopen(path, "wb");
    if (!file)
        fail("cannot create %s", path);
    fprintf(file, "P6\n%d %d\n255\n", picture->width, picture->height);
    if (fwrite(picture->pixels, 1, bytes, file) != bytes || fclose(file) != 0)
        fail("cannot write %s", path);
}

static int clamp(int value, int low, int high) { return value < low ? low : value > high ? high : value; }

static int grey(const struct picture *picture, int x, int y) {
    x = clamp(x, 0, picture->width - 1);
    y = clamp(y, 0, picture->height - 1);
    const unsigned char *pixel = picture->pixels + (y * picture->width + x) * CHANNELS;
    return (77 * pixel[0] + 150 * pixel[1] + 29 * pixel[2]) >> 8;
}

static int expected(const struct picture *in, int x, int y, int channel) {
    int gx = 0, gy = 0;
    for (int d = -1; d <= 1; d++) {
        int weight = d == 0 ? 2 : 1;
        gx += weight * (grey(in, x + 1, y + d) - grey(in, x - 1, y + d));
        gy += weight * (grey(in, x + d, y + 1) - grey(in, x + d, y - 1));
    }
    int edge = (abs(gx) + abs(gy)) * strength / 100;
    return clamp(128 + in->pixels[(y * in->width + x) * CHANNELS + channel] / 2 - edge, 0, 255);
}

static void compare(const struct picture *in, const struct picture *out) {
    for (int y = 0; y < in->height; y++)
        for (int x = 0; x < in->width; x++)
            for (int channel = 0; channel < CHANNELS; channel++) {
                int got = out->pixels[(y * in->width + x) * CHANNELS + channel], want = expected(in, x, y, channel);
                if (got != want)
                    fail("channel %d of pixel (%d, %d) is %d, not %d", channel, x, y, got, want);
            }
}

static void filter(CUmodule module, const struct picture *in, struct picture *out) {
    CUfunction function;
    CUdeviceptr device_in, device_out, constant;
    CUstream stream;
    size_t in_pitch, out_pitch, bytes, row = (size_t)in->width * CHANNELS, rows = (size_t)in->height;
    CHECK(cuModuleGetFunction(&function, module, "image_filter"));
    CHECK(cuModuleGetGlobal(&constant, &bytes, module, "strength"));
    CHECK(cuMemcpyHtoD(constant, &strength, sizeof strength));
    CHECK(cuMemAllocPitch(&device_in, &in_pitch, row, rows, 4));
    CHECK(cuMemAllocPitch(&device_out, &out_pitch, row, rows, 4));
    if (in_pitch < row || out_pitch < row)
        fail("rows of %zu bytes got a pitch of %zu", row, in_pitch);

    CUDA_MEMCPY2D up = {
        .srcMemoryType = CU_MEMORYTYPE_HOST, .srcHost = in->pixels, .srcPitch = row,
        .dstMemoryType = CU_MEMORYTYPE_DEVICE, .dstDevice = device_in, .dstPitch = in_pitch,
        .WidthInBytes = row, .Height = rows,
    };
    CHECK(cuMemcpy2D(&up));
    CHECK(cuStreamCreate(&stream, CU_STREAM_DEFAULT));
    unsigned long long pitches[2] = {in_pitch, out_pitch};
    int width = in->width, height = in->height;
    void *parameters[] = {&device_in, &pitches[0], &device_out, &pitches[1], &width, &height};
    CHECK(cuLaunchKernel(function, blocks_for((unsigned)width, BLOCK), blocks_for((unsigned)height, BLOCK), 1, BLOCK,
                         BLOCK, 1, 0, stream, parameters, NULL));
    CUDA_MEMCPY2D down = {
        .srcMemoryType = CU_MEMORYTYPE_DEVICE, .srcDevice = device_out, .srcPitch = out_pitch,
        .dstMemoryType = CU_MEMORYTYPE_HOST, .dstHost = out->pixels, .dstPitch = row,
        .WidthInBytes = row, .Height = rows,
    };
    CHECK(cuMemcpy2DAsync(&down, stream));
    CHECK(cuStreamSynchronize(stream));
    CHECK(cuStreamDestroy(stream));
    CHECK(cuMemFree(device_in));
    CHECK(cuMemFree(device_out));
}

int main(int argc, char **argv) {
    if (argc != 3)
        fail("usage: image_filter IN.ppm OUT.ppm");
    CUdevice device = first_device();
    CUcontext context;
    CHECK(cuCtxCreate(&context, CU_CTX_SCHED_AUTO, device));
    CUmodule module = load_module();
    struct picture in = read_ppm(argv[1]), out = in;
    out.pixels = malloc((size_t)in.width * (size_t)in.height * CHANNELS);
    if (!out.pixels)
        fail("no memory for the picture");
    filter(module, &in, &out);
    compare(&in, &out);
    write_ppm(argv[2], &out);
    CHECK(cuModuleUnload(module));
    CHECK(cuCtxDestroy(context));
    free(in.pixels);
    free(out.pixels);
    return pass("%d x %d pixels equal the CPU's", in.width, in.height);
}
