/* An ink drawing from a photograph: each pixel is darkened by the gradient of brightness around it (Sobel). Integers
   throughout, so the CPU's answer is the same to the bit. Rows lie `pitch` bytes apart, as cuMemAllocPitch gives them. */
#include "device.h"

#define BLOCK 16
#define HALO (BLOCK + 2)

/* How strongly an edge darkens, in percent; the host sets it. */
__constant__ int strength = 100;

__device__ static int clamp(int value, int low, int high) {
    return value < low ? low : value > high ? high : value;
}

extern "C" __global__ void image_filter(const unsigned char *in, unsigned long long in_pitch, unsigned char *out,
                                        unsigned long long out_pitch, int width, int height) {
    __shared__ int grey[HALO][HALO];
    int left = (int)block_x() * BLOCK - 1, top = (int)block_y() * BLOCK - 1;
    int tx = (int)thread_x(), ty = (int)thread_y();

    for (int i = ty * BLOCK + tx; i < HALO * HALO; i += BLOCK * BLOCK) {
        int x = clamp(left + i % HALO, 0, width - 1), y = clamp(top + i / HALO, 0, height - 1);
        const unsigned char *pixel = in + y * in_pitch + 3 * x;
        grey[i / HALO][i % HALO] = (77 * pixel[0] + 150 * pixel[1] + 29 * pixel[2]) >> 8;
    }
    barrier();

    int x = left + 1 + tx, y = top + 1 + ty;
    if (x >= width || y >= height)
        return;
    int gx = grey[ty][tx + 2] + 2 * grey[ty + 1][tx + 2] + grey[ty + 2][tx + 2] - grey[ty][tx] -
             2 * grey[ty + 1][tx] - grey[ty + 2][tx];
    int gy = grey[ty + 2][tx] + 2 * grey[ty + 2][tx + 1] + grey[ty + 2][tx + 2] - grey[ty][tx] -
             2 * grey[ty][tx + 1] - grey[ty][tx + 2];
    int edge = ((gx < 0 ? -gx : gx) + (gy < 0 ? -gy : gy)) * strength / 100;
    for (int channel = 0; channel < 3; channel++) {
        int paper = 128 + in[y * in_pitch + 3 * x + channel] / 2;
        out[y * out_pitch + 3 * x + channel] = (unsigned char)clamp(paper - edge, 0, 255);
    }
}
