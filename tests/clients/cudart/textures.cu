// Arrays read through texture objects and written through surface objects.
#include "check.h"

__global__ void sample(cudaTextureObject_t texture, float *out, int width)
{
    out[threadIdx.y * width + threadIdx.x] = tex2D<float>(texture, threadIdx.x + 0.5f, threadIdx.y + 0.5f);
}

__global__ void between(cudaTextureObject_t texture, float *out)
{
    out[threadIdx.x] = tex2D<float>(texture, threadIdx.x + 1.0f, 0.5f);
}

__global__ void negate(cudaSurfaceObject_t surface)
{
    float value;
    surf2Dread(&value, surface, threadIdx.x * 4, threadIdx.y);
    surf2Dwrite(-value, surface, threadIdx.x * 4, threadIdx.y);
}

int main()
{
    const int width = 16, height = 8;
    std::vector<float> host(width * height);
    for (int i = 0; i < width * height; i++)
        host[i] = i * i;
    cudaChannelFormatDesc format = cudaCreateChannelDesc<float>();
    cudaArray_t array;
    CHECK(cudaMallocArray(&array, &format, width, height, cudaArraySurfaceLoadStore));
    CHECK(cudaMemcpy2DToArray(array, 0, 0, host.data(), width * 4, width * 4, height, cudaMemcpyHostToDevice));
    cudaResourceDesc resource = {};
    resource.resType = cudaResourceTypeArray;
    resource.res.array.array = array;
    cudaTextureDesc description = {};
    description.addressMode[0] = description.addressMode[1] = cudaAddressModeClamp;
    description.filterMode = cudaFilterModePoint;
    cudaTextureObject_t texture;
    CHECK(cudaCreateTextureObject(&texture, &resource, &description, nullptr));
    Device<float> out(width * height);
    sample<<<1, dim3(width, height)>>>(texture, out.at, width);
    std::vector<float> seen = out.read();
    for (int i = 0; i < width * height; i++)
        EXPECT(seen[i] == host[i]);
    CHECK(cudaDestroyTextureObject(texture));
    description.filterMode = cudaFilterModeLinear;
    CHECK(cudaCreateTextureObject(&texture, &resource, &description, nullptr));
    between<<<1, 8>>>(texture, out.at);
    seen = out.read();
    for (int i = 0; i < 8; i++)
        EXPECT(seen[i] == (i * i + (i + 1) * (i + 1)) / 2.0f);
    CHECK(cudaDestroyTextureObject(texture));
    cudaSurfaceObject_t surface;
    CHECK(cudaCreateSurfaceObject(&surface, &resource));
    negate<<<1, dim3(width, height)>>>(surface);
    CHECK(cudaMemcpy2DFromArray(seen.data(), width * 4, array, 0, 0, width * 4, height, cudaMemcpyDeviceToHost));
    for (int i = 0; i < width * height; i++)
        EXPECT(seen[i] == -host[i]);
    CHECK(cudaDestroySurfaceObject(surface));
    CHECK(cudaFreeArray(array));
    return passed("textures");
}
