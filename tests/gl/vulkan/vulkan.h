// What the parts of the Vulkan program share. It uses nothing beyond Vulkan 1.1, and no extension. Whatever fails is said on standard
// error, by the call's name and its VkResult, and ends the program with 1.
#ifndef VULKAN_H
#define VULKAN_H
#include <stdint.h>
#include <vulkan/vulkan.h>

#define TRY(call, ...) succeeded(#call, call(__VA_ARGS__))
#define COUNT(array) ((uint32_t)(sizeof(array) / sizeof(array)[0]))

// A device, and its one queue, which draws and computes.
struct gpu {
    VkInstance instance;
    VkPhysicalDevice physical;
    VkPhysicalDeviceMemoryProperties memory;
    VkDevice device;
    VkQueue queue;
    VkCommandPool pool;
    VkFence fence;
};

// Where memory lies: the host writes and reads it, coherently; or the device has it for itself, as far as it has such memory.
enum where { HOST, DEVICE };

struct buffer {
    VkBuffer handle;
    VkDeviceMemory memory;
    VkDeviceSize bytes;
    // The host's, else NULL.
    void *mapped;
};

struct image {
    VkImage handle;
    VkDeviceMemory memory;
    VkImageView view;
};

void fail(const char *what);
void succeeded(const char *call, VkResult result);
const char *name_of(VkResult result);

// device.c
// The physical device of this number; says its name and driver. `name` is the program's.
void open_gpu(struct gpu *gpu, const char *name, uint32_t number);
void close_gpu(struct gpu *gpu);
// The first kind of memory that is allowed and has what is wanted; one that the host does not see comes first for the device.
uint32_t memory_kind(struct gpu *gpu, uint32_t allowed, enum where where);
struct buffer make_buffer(struct gpu *gpu, VkDeviceSize bytes, VkBufferUsageFlags usage, enum where where);
void end_buffer(struct gpu *gpu, struct buffer *buffer);
// A buffer of the device's own with these bytes, which go through one of the host's.
struct buffer fill_buffer(struct gpu *gpu, const void *bytes, VkDeviceSize count, VkBufferUsageFlags usage);
struct image make_image(struct gpu *gpu, VkFormat format, uint32_t width, uint32_t height, VkImageUsageFlags usage, VkImageAspectFlags aspect);
void end_image(struct gpu *gpu, struct image *image);
VkCommandBuffer begin_commands(struct gpu *gpu);
// Submits recorded commands and waits for their end; as often as one likes.
void run(struct gpu *gpu, VkCommandBuffer commands);
void run_once(struct gpu *gpu, VkCommandBuffer commands);
// What the transfer stage or a shader wrote, before another stage reads it.
void memory_barrier(VkCommandBuffer commands, VkPipelineStageFlags from, VkAccessFlags wrote, VkPipelineStageFlags to, VkAccessFlags reads);
VkShaderModule load_shader(struct gpu *gpu, const uint32_t *words, size_t bytes);

// compute.c: a shader over a buffer, every word of which is computed here again. Answers how many words there were.
uint32_t compute(struct gpu *gpu);

// many.c: memories of 2 MiB that the host sees, as many as there are to be had of so many; says how many, and what ended it.
void many(struct gpu *gpu, uint32_t wanted);

// scene.c
struct scene {
    uint32_t width, height;
    // The picture, four bytes a pixel, once the commands have run.
    struct buffer pixels;
    VkCommandBuffer draw;
    struct image colour, depth, texture;
    struct buffer vertices, indices, instances, camera;
    VkFramebuffer framebuffer;
    VkRenderPass pass;
    VkSampler sampler;
    VkDescriptorPool sets;
    VkDescriptorSetLayout set_layout;
    VkPipelineLayout layout;
    // Opaque things, and those that one sees through.
    VkPipeline pipelines[2];
};
struct scene make_scene(struct gpu *gpu, uint32_t width, uint32_t height);
void end_scene(struct gpu *gpu, struct scene *scene);

// pipeline.c: the scene's render pass, and its pipelines for vertices and instances as mesh.h has them.
void make_pass(struct gpu *gpu, struct scene *scene, VkFormat colour, VkFormat depth);
void make_pipelines(struct gpu *gpu, struct scene *scene);
#endif
