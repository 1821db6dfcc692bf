// A device, its memory, and commands that run on it to their end.
#include "vulkan.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fail(const char *what) {
    fprintf(stderr, "vulkan: %s\n", what);
    exit(1);
}

const char *name_of(VkResult result) {
    switch (result) {
#define NAME(result) \
    case result: \
        return #result
        NAME(VK_NOT_READY);
        NAME(VK_TIMEOUT);
        NAME(VK_INCOMPLETE);
        NAME(VK_ERROR_OUT_OF_HOST_MEMORY);
        NAME(VK_ERROR_OUT_OF_DEVICE_MEMORY);
        NAME(VK_ERROR_INITIALIZATION_FAILED);
        NAME(VK_ERROR_DEVICE_LOST);
        NAME(VK_ERROR_MEMORY_MAP_FAILED);
        NAME(VK_ERROR_LAYER_NOT_PRESENT);
        NAME(VK_ERROR_EXTENSION_NOT_PRESENT);
        NAME(VK_ERROR_FEATURE_NOT_PRESENT);
        NAME(VK_ERROR_INCOMPATIBLE_DRIVER);
        NAME(VK_ERROR_TOO_MANY_OBJECTS);
        NAME(VK_ERROR_FORMAT_NOT_SUPPORTED);
        NAME(VK_ERROR_FRAGMENTED_POOL);
        NAME(VK_ERROR_OUT_OF_POOL_MEMORY);
        NAME(VK_ERROR_UNKNOWN);
#undef NAME
    default:
        return "VkResult";
    }
}

void succeeded(const char *call, VkResult result) {
    if (result == VK_SUCCESS) return;
    fprintf(stderr, "vulkan: %s: %s (%d)\n", call, name_of(result), (int)result);
    exit(1);
}

static void choose(struct gpu *gpu, uint32_t number) {
    VkPhysicalDevice all[16];
    uint32_t count = COUNT(all);
    VkResult listed = vkEnumeratePhysicalDevices(gpu->instance, &count, all);
    if (listed != VK_INCOMPLETE) succeeded("vkEnumeratePhysicalDevices", listed);
    if (count == 0) fail("there is no device: no driver (VK_DRIVER_FILES) has one");
    if (number >= count) {
        fprintf(stderr, "vulkan: there is no device %u: there are %u, from 0 on\n", number, count);
        exit(1);
    }
    gpu->physical = all[number];
    vkGetPhysicalDeviceMemoryProperties(gpu->physical, &gpu->memory);
    VkPhysicalDeviceDriverProperties driver = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES};
    VkPhysicalDeviceProperties2 properties = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
    VkPhysicalDeviceProperties *core = &properties.properties;
    vkGetPhysicalDeviceProperties(gpu->physical, core);
    if (core->apiVersion < VK_API_VERSION_1_1) fail("the device has no Vulkan 1.1");
    // Devices have told their driver's name since 1.2.
    if (core->apiVersion >= VK_API_VERSION_1_2) properties.pNext = &driver;
    vkGetPhysicalDeviceProperties2(gpu->physical, &properties);
    printf("vulkan: device %s\n", core->deviceName);
    printf("vulkan: driver %s %s, version 0x%x, Vulkan %u.%u.%u\n", driver.driverName, driver.driverInfo, core->driverVersion,
           VK_API_VERSION_MAJOR(core->apiVersion), VK_API_VERSION_MINOR(core->apiVersion), VK_API_VERSION_PATCH(core->apiVersion));
    fflush(stdout);
}

// The first family of queues that draws and computes; there is one wherever anything draws.
static uint32_t family(struct gpu *gpu) {
    VkQueueFamilyProperties families[16];
    uint32_t count = COUNT(families);
    vkGetPhysicalDeviceQueueFamilyProperties(gpu->physical, &count, families);
    for (uint32_t i = 0; i < count; i++)
        if (families[i].queueFlags & VK_QUEUE_GRAPHICS_BIT && families[i].queueFlags & VK_QUEUE_COMPUTE_BIT) return i;
    fail("the device has no queue that draws and computes");
    return 0;
}

void open_gpu(struct gpu *gpu, const char *name, uint32_t number) {
    VkApplicationInfo application = {VK_STRUCTURE_TYPE_APPLICATION_INFO, NULL, name, 1, NULL, 0, VK_API_VERSION_1_1};
    VkInstanceCreateInfo instance = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application};
    VkResult created = vkCreateInstance(&instance, NULL, &gpu->instance);
    if (created == VK_ERROR_INCOMPATIBLE_DRIVER) fail("vkCreateInstance: VK_ERROR_INCOMPATIBLE_DRIVER: the loader finds no driver (VK_DRIVER_FILES)");
    succeeded("vkCreateInstance", created);
    choose(gpu, number);
    float priority = 1.0f;
    uint32_t chosen = family(gpu);
    VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO, .queueFamilyIndex = chosen, .queueCount = 1, .pQueuePriorities = &priority};
    VkDeviceCreateInfo device = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, .queueCreateInfoCount = 1, .pQueueCreateInfos = &queue};
    TRY(vkCreateDevice, gpu->physical, &device, NULL, &gpu->device);
    vkGetDeviceQueue(gpu->device, chosen, 0, &gpu->queue);
    VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, .queueFamilyIndex = chosen};
    TRY(vkCreateCommandPool, gpu->device, &pool, NULL, &gpu->pool);
    VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    TRY(vkCreateFence, gpu->device, &fence, NULL, &gpu->fence);
}

void close_gpu(struct gpu *gpu) {
    TRY(vkDeviceWaitIdle, gpu->device);
    vkDestroyFence(gpu->device, gpu->fence, NULL);
    vkDestroyCommandPool(gpu->device, gpu->pool, NULL);
    vkDestroyDevice(gpu->device, NULL);
    vkDestroyInstance(gpu->instance, NULL);
}

uint32_t memory_kind(struct gpu *gpu, uint32_t allowed, enum where where) {
    static const VkMemoryPropertyFlags host = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    VkMemoryPropertyFlags wanted = where == HOST ? host : VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, shunned = where == HOST ? 0 : host;
    for (int either = 0; either < 2; either++, shunned = 0)
        for (uint32_t i = 0; i < gpu->memory.memoryTypeCount; i++) {
            VkMemoryPropertyFlags has = gpu->memory.memoryTypes[i].propertyFlags;
            if (allowed & 1u << i && (has & wanted) == wanted && !(has & shunned)) return i;
        }
    fail(where == HOST ? "the device has no memory that the host sees coherently" : "the device has no memory of its own");
    return 0;
}

static VkDeviceMemory allocate(struct gpu *gpu, VkMemoryRequirements needs, enum where where) {
    VkMemoryAllocateInfo info = {VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, NULL, needs.size, memory_kind(gpu, needs.memoryTypeBits, where)};
    VkDeviceMemory memory;
    TRY(vkAllocateMemory, gpu->device, &info, NULL, &memory);
    return memory;
}

struct buffer make_buffer(struct gpu *gpu, VkDeviceSize bytes, VkBufferUsageFlags usage, enum where where) {
    struct buffer buffer = {.bytes = bytes};
    VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = bytes, .usage = usage, .sharingMode = VK_SHARING_MODE_EXCLUSIVE};
    TRY(vkCreateBuffer, gpu->device, &info, NULL, &buffer.handle);
    VkMemoryRequirements needs;
    vkGetBufferMemoryRequirements(gpu->device, buffer.handle, &needs);
    buffer.memory = allocate(gpu, needs, where);
    TRY(vkBindBufferMemory, gpu->device, buffer.handle, buffer.memory, 0);
    if (where == HOST) TRY(vkMapMemory, gpu->device, buffer.memory, 0, VK_WHOLE_SIZE, 0, &buffer.mapped);
    return buffer;
}

void end_buffer(struct gpu *gpu, struct buffer *buffer) {
    if (buffer->mapped) vkUnmapMemory(gpu->device, buffer->memory);
    vkDestroyBuffer(gpu->device, buffer->handle, NULL);
    vkFreeMemory(gpu->device, buffer->memory, NULL);
}

struct buffer fill_buffer(struct gpu *gpu, const void *bytes, VkDeviceSize count, VkBufferUsageFlags usage) {
    struct buffer staging = make_buffer(gpu, count, VK_BUFFER_USAGE_TRANSFER_SRC_BIT, HOST);
    struct buffer buffer = make_buffer(gpu, count, usage | VK_BUFFER_USAGE_TRANSFER_DST_BIT, DEVICE);
    memcpy(staging.mapped, bytes, count);
    VkCommandBuffer commands = begin_commands(gpu);
    VkBufferCopy all = {0, 0, count};
    vkCmdCopyBuffer(commands, staging.handle, buffer.handle, 1, &all);
    run_once(gpu, commands);
    end_buffer(gpu, &staging);
    return buffer;
}

struct image make_image(struct gpu *gpu, VkFormat format, uint32_t width, uint32_t height, VkImageUsageFlags usage, VkImageAspectFlags aspect) {
    struct image image;
    VkImageCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_IMAGE_CREATE_INFO, .imageType = VK_IMAGE_TYPE_2D, .format = format, .extent = {width, height, 1}, .mipLevels = 1,
        .arrayLayers = 1, .samples = VK_SAMPLE_COUNT_1_BIT, .tiling = VK_IMAGE_TILING_OPTIMAL, .usage = usage, .initialLayout = VK_IMAGE_LAYOUT_UNDEFINED};
    TRY(vkCreateImage, gpu->device, &info, NULL, &image.handle);
    VkMemoryRequirements needs;
    vkGetImageMemoryRequirements(gpu->device, image.handle, &needs);
    image.memory = allocate(gpu, needs, DEVICE);
    TRY(vkBindImageMemory, gpu->device, image.handle, image.memory, 0);
    VkImageViewCreateInfo view = {
        .sType = VK_STRUCTURE_TYPE_IMAGE_VIEW_CREATE_INFO, .image = image.handle, .viewType = VK_IMAGE_VIEW_TYPE_2D, .format = format,
        .subresourceRange = {aspect, 0, 1, 0, 1}};
    TRY(vkCreateImageView, gpu->device, &view, NULL, &image.view);
    return image;
}

void end_image(struct gpu *gpu, struct image *image) {
    vkDestroyImageView(gpu->device, image->view, NULL);
    vkDestroyImage(gpu->device, image->handle, NULL);
    vkFreeMemory(gpu->device, image->memory, NULL);
}

VkCommandBuffer begin_commands(struct gpu *gpu) {
    VkCommandBufferAllocateInfo info = {VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO, NULL, gpu->pool, VK_COMMAND_BUFFER_LEVEL_PRIMARY, 1};
    VkCommandBuffer commands;
    TRY(vkAllocateCommandBuffers, gpu->device, &info, &commands);
    VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    TRY(vkBeginCommandBuffer, commands, &begin);
    return commands;
}

void run(struct gpu *gpu, VkCommandBuffer commands) {
    VkSubmitInfo submit = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1, .pCommandBuffers = &commands};
    TRY(vkQueueSubmit, gpu->queue, 1, &submit, gpu->fence);
    // An emulated guest beside others takes its time; forever would be a hang.
    TRY(vkWaitForFences, gpu->device, 1, &gpu->fence, VK_TRUE, 60 * UINT64_C(1000000000));
    TRY(vkResetFences, gpu->device, 1, &gpu->fence);
}

void run_once(struct gpu *gpu, VkCommandBuffer commands) {
    TRY(vkEndCommandBuffer, commands);
    run(gpu, commands);
    vkFreeCommandBuffers(gpu->device, gpu->pool, 1, &commands);
}

void memory_barrier(VkCommandBuffer commands, VkPipelineStageFlags from, VkAccessFlags wrote, VkPipelineStageFlags to, VkAccessFlags reads) {
    VkMemoryBarrier barrier = {VK_STRUCTURE_TYPE_MEMORY_BARRIER, NULL, wrote, reads};
    vkCmdPipelineBarrier(commands, from, to, 0, 1, &barrier, 0, NULL, 0, NULL);
}

VkShaderModule load_shader(struct gpu *gpu, const uint32_t *words, size_t bytes) {
    VkShaderModuleCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = bytes, .pCode = words};
    VkShaderModule shader;
    TRY(vkCreateShaderModule, gpu->device, &info, NULL, &shader);
    return shader;
}
