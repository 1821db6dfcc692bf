// Copies of planes and boxes, with pitches on either side, and what is known of a pointer.
#include "check.h"

int main()
{
    const size_t width = 100, height = 37, depth = 5;
    std::vector<unsigned char> from(width * height), to(width * height, 0);
    for (size_t i = 0; i < from.size(); i++)
        from[i] = (unsigned char)(i * 7);
    void *plane = nullptr;
    size_t pitch = 0;
    CHECK(cudaMallocPitch(&plane, &pitch, width, height));
    EXPECT(pitch >= width);
    CHECK(cudaMemset2D(plane, pitch, 0xee, width, height));
    CHECK(cudaMemcpy2D(plane, pitch, from.data(), width, width, height, cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy2D(to.data(), width, plane, pitch, width, height, cudaMemcpyDeviceToHost));
    EXPECT(from == to);

    cudaPitchedPtr box;
    CHECK(cudaMalloc3D(&box, make_cudaExtent(width, height, depth)));
    CHECK(cudaMemset3D(box, 0x11, make_cudaExtent(width, height, depth)));
    cudaMemcpy3DParms copy = {};
    copy.srcPtr = make_cudaPitchedPtr(from.data(), width, width, height);
    copy.dstPtr = box;
    copy.dstPos = make_cudaPos(0, 0, 2);
    copy.extent = make_cudaExtent(width, height, 1);
    copy.kind = cudaMemcpyHostToDevice;
    CHECK(cudaMemcpy3D(&copy));
    std::vector<unsigned char> all(width * height * depth);
    copy = {};
    copy.srcPtr = box;
    copy.dstPtr = make_cudaPitchedPtr(all.data(), width, width, height);
    copy.extent = make_cudaExtent(width, height, depth);
    copy.kind = cudaMemcpyDeviceToHost;
    CHECK(cudaMemcpy3D(&copy));
    for (size_t i = 0; i < from.size(); i++)
        EXPECT(all[2 * from.size() + i] == from[i] && all[i] == 0x11);

    cudaPointerAttributes attributes;
    CHECK(cudaPointerGetAttributes(&attributes, plane));
    EXPECT(attributes.type == cudaMemoryTypeDevice && attributes.device == 0);
    CHECK(cudaPointerGetAttributes(&attributes, from.data()));
    EXPECT(attributes.type == cudaMemoryTypeUnregistered);
    CHECK(cudaFree(plane));
    CHECK(cudaFree(box.ptr));
    return passed("copies");
}
