// The scene: what it is made of, and the commands that draw it and bring the picture to the host.
#include "mesh.h"
#include "vulkan.h"
#include <string.h>

// Every device draws to these.
static const VkFormat COLOUR = VK_FORMAT_R8G8B8A8_UNORM, DEPTH = VK_FORMAT_D16_UNORM;

static void turn_image(VkCommandBuffer commands, VkImage image, VkImageLayout from, VkImageLayout to, VkAccessFlags wrote, VkAccessFlags reads,
                       VkPipelineStageFlags before, VkPipelineStageFlags after) {
    VkImageMemoryBarrier barrier = {
        VK_STRUCTURE_TYPE_IMAGE_MEMORY_BARRIER, NULL, wrote, reads, from, to, VK_QUEUE_FAMILY_IGNORED, VK_QUEUE_FAMILY_IGNORED, image,
        {VK_IMAGE_ASPECT_COLOR_BIT, 0, 1, 0, 1}};
    vkCmdPipelineBarrier(commands, before, after, 0, 0, NULL, 0, NULL, 1, &barrier);
}

static void fill_texture(struct gpu *gpu, struct scene *scene) {
    scene->texture = make_image(gpu, COLOUR, SIDE, SIDE, VK_IMAGE_USAGE_SAMPLED_BIT | VK_IMAGE_USAGE_TRANSFER_DST_BIT, VK_IMAGE_ASPECT_COLOR_BIT);
    struct buffer staging = make_buffer(gpu, SIDE * SIDE * 4, VK_BUFFER_USAGE_TRANSFER_SRC_BIT, HOST);
    make_texture(staging.mapped);
    VkCommandBuffer commands = begin_commands(gpu);
    turn_image(commands, scene->texture.handle, VK_IMAGE_LAYOUT_UNDEFINED, VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL, 0, VK_ACCESS_TRANSFER_WRITE_BIT,
               VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT, VK_PIPELINE_STAGE_TRANSFER_BIT);
    VkBufferImageCopy all = {.imageSubresource = {VK_IMAGE_ASPECT_COLOR_BIT, 0, 0, 1}, .imageExtent = {SIDE, SIDE, 1}};
    vkCmdCopyBufferToImage(commands, staging.handle, scene->texture.handle, VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL, 1, &all);
    turn_image(commands, scene->texture.handle, VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL, VK_IMAGE_LAYOUT_SHADER_READ_ONLY_OPTIMAL, VK_ACCESS_TRANSFER_WRITE_BIT,
               VK_ACCESS_SHADER_READ_BIT, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_PIPELINE_STAGE_FRAGMENT_SHADER_BIT);
    run_once(gpu, commands);
    end_buffer(gpu, &staging);
    VkSamplerCreateInfo sampler = {
        .sType = VK_STRUCTURE_TYPE_SAMPLER_CREATE_INFO, .magFilter = VK_FILTER_LINEAR, .minFilter = VK_FILTER_LINEAR,
        .addressModeU = VK_SAMPLER_ADDRESS_MODE_REPEAT, .addressModeV = VK_SAMPLER_ADDRESS_MODE_MIRRORED_REPEAT};
    TRY(vkCreateSampler, gpu->device, &sampler, NULL, &scene->sampler);
}

static void fill_buffers(struct gpu *gpu, struct scene *scene) {
    static struct vertex vertices[VERTICES];
    static struct instance instances[INSTANCES];
    static uint16_t indices[INDICES];
    make_mesh(vertices, indices);
    make_instances(instances);
    scene->vertices = fill_buffer(gpu, vertices, sizeof vertices, VK_BUFFER_USAGE_VERTEX_BUFFER_BIT);
    scene->indices = fill_buffer(gpu, indices, sizeof indices, VK_BUFFER_USAGE_INDEX_BUFFER_BIT);
    scene->instances = fill_buffer(gpu, instances, sizeof instances, VK_BUFFER_USAGE_VERTEX_BUFFER_BIT);
    // The device reads this one where the host wrote it.
    scene->camera = make_buffer(gpu, sizeof(struct camera), VK_BUFFER_USAGE_UNIFORM_BUFFER_BIT, HOST);
    make_camera(scene->camera.mapped, (float)scene->width / (float)scene->height);
}

static VkDescriptorSet make_set(struct gpu *gpu, struct scene *scene) {
    VkDescriptorSetLayoutBinding bindings[] = {
        {0, VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER, 1, VK_SHADER_STAGE_VERTEX_BIT, NULL},
        {1, VK_DESCRIPTOR_TYPE_COMBINED_IMAGE_SAMPLER, 1, VK_SHADER_STAGE_FRAGMENT_BIT, NULL},
    };
    VkDescriptorSetLayoutCreateInfo layout = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO, .bindingCount = COUNT(bindings), .pBindings = bindings};
    TRY(vkCreateDescriptorSetLayout, gpu->device, &layout, NULL, &scene->set_layout);
    VkDescriptorPoolSize sizes[] = {{VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER, 1}, {VK_DESCRIPTOR_TYPE_COMBINED_IMAGE_SAMPLER, 1}};
    VkDescriptorPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO, .maxSets = 1, .poolSizeCount = COUNT(sizes), .pPoolSizes = sizes};
    TRY(vkCreateDescriptorPool, gpu->device, &pool, NULL, &scene->sets);
    VkDescriptorSetAllocateInfo info = {VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO, NULL, scene->sets, 1, &scene->set_layout};
    VkDescriptorSet set;
    TRY(vkAllocateDescriptorSets, gpu->device, &info, &set);
    VkDescriptorBufferInfo camera = {scene->camera.handle, 0, VK_WHOLE_SIZE};
    VkDescriptorImageInfo texture = {scene->sampler, scene->texture.view, VK_IMAGE_LAYOUT_SHADER_READ_ONLY_OPTIMAL};
    VkWriteDescriptorSet writes[] = {
        {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET, .dstSet = set, .dstBinding = 0, .descriptorCount = 1,
         .descriptorType = VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER, .pBufferInfo = &camera},
        {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET, .dstSet = set, .dstBinding = 1, .descriptorCount = 1,
         .descriptorType = VK_DESCRIPTOR_TYPE_COMBINED_IMAGE_SAMPLER, .pImageInfo = &texture},
    };
    vkUpdateDescriptorSets(gpu->device, COUNT(writes), writes, 0, NULL);
    return set;
}

static void record(struct gpu *gpu, struct scene *scene, VkDescriptorSet set) {
    VkCommandBuffer draw = scene->draw = begin_commands(gpu);
    VkClearValue clear[] = {{.color = {{0.08f, 0.09f, 0.14f, 1.0f}}}, {.depthStencil = {1.0f, 0}}};
    VkRenderPassBeginInfo pass = {
        VK_STRUCTURE_TYPE_RENDER_PASS_BEGIN_INFO, NULL, scene->pass, scene->framebuffer, {{0, 0}, {scene->width, scene->height}}, COUNT(clear), clear};
    vkCmdBeginRenderPass(draw, &pass, VK_SUBPASS_CONTENTS_INLINE);
    VkBuffer streams[] = {scene->vertices.handle, scene->instances.handle};
    VkDeviceSize offsets[] = {0, 0};
    vkCmdBindVertexBuffers(draw, 0, COUNT(streams), streams, offsets);
    vkCmdBindIndexBuffer(draw, scene->indices.handle, 0, VK_INDEX_TYPE_UINT16);
    vkCmdBindDescriptorSets(draw, VK_PIPELINE_BIND_POINT_GRAPHICS, scene->layout, 0, 1, &set, 0, NULL);
    vkCmdBindPipeline(draw, VK_PIPELINE_BIND_POINT_GRAPHICS, scene->pipelines[0]);
    vkCmdDrawIndexed(draw, CUBE_INDICES, CUBES, 0, 0, 0);
    vkCmdDrawIndexed(draw, GROUND_INDICES, 1, CUBE_INDICES, 0, GROUND);
    vkCmdBindPipeline(draw, VK_PIPELINE_BIND_POINT_GRAPHICS, scene->pipelines[1]);
    vkCmdDrawIndexed(draw, GLASS_INDICES, 1, CUBE_INDICES + GROUND_INDICES, 0, GLASS);
    vkCmdEndRenderPass(draw);
    VkBufferImageCopy all = {.imageSubresource = {VK_IMAGE_ASPECT_COLOR_BIT, 0, 0, 1}, .imageExtent = {scene->width, scene->height, 1}};
    vkCmdCopyImageToBuffer(draw, scene->colour.handle, VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL, scene->pixels.handle, 1, &all);
    memory_barrier(draw, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
    TRY(vkEndCommandBuffer, draw);
}

struct scene make_scene(struct gpu *gpu, uint32_t width, uint32_t height) {
    struct scene scene = {.width = width, .height = height};
    scene.colour = make_image(gpu, COLOUR, width, height, VK_IMAGE_USAGE_COLOR_ATTACHMENT_BIT | VK_IMAGE_USAGE_TRANSFER_SRC_BIT, VK_IMAGE_ASPECT_COLOR_BIT);
    scene.depth = make_image(gpu, DEPTH, width, height, VK_IMAGE_USAGE_DEPTH_STENCIL_ATTACHMENT_BIT, VK_IMAGE_ASPECT_DEPTH_BIT);
    scene.pixels = make_buffer(gpu, (VkDeviceSize)width * height * 4, VK_BUFFER_USAGE_TRANSFER_DST_BIT, HOST);
    fill_texture(gpu, &scene);
    fill_buffers(gpu, &scene);
    make_pass(gpu, &scene, COLOUR, DEPTH);
    VkImageView views[] = {scene.colour.view, scene.depth.view};
    VkFramebufferCreateInfo framebuffer = {VK_STRUCTURE_TYPE_FRAMEBUFFER_CREATE_INFO, NULL, 0, scene.pass, COUNT(views), views, width, height, 1};
    TRY(vkCreateFramebuffer, gpu->device, &framebuffer, NULL, &scene.framebuffer);
    VkDescriptorSet set = make_set(gpu, &scene);
    make_pipelines(gpu, &scene);
    record(gpu, &scene, set);
    return scene;
}

void end_scene(struct gpu *gpu, struct scene *scene) {
    struct buffer *buffers[] = {&scene->pixels, &scene->vertices, &scene->indices, &scene->instances, &scene->camera};
    struct image *images[] = {&scene->colour, &scene->depth, &scene->texture};
    vkFreeCommandBuffers(gpu->device, gpu->pool, 1, &scene->draw);
    for (uint32_t i = 0; i < COUNT(scene->pipelines); i++) vkDestroyPipeline(gpu->device, scene->pipelines[i], NULL);
    vkDestroyPipelineLayout(gpu->device, scene->layout, NULL);
    vkDestroyDescriptorPool(gpu->device, scene->sets, NULL);
    vkDestroyDescriptorSetLayout(gpu->device, scene->set_layout, NULL);
    vkDestroyFramebuffer(gpu->device, scene->framebuffer, NULL);
    vkDestroyRenderPass(gpu->device, scene->pass, NULL);
    vkDestroySampler(gpu->device, scene->sampler, NULL);
    for (uint32_t i = 0; i < COUNT(images); i++) end_image(gpu, images[i]);
    for (uint32_t i = 0; i < COUNT(buffers); i++) end_buffer(gpu, buffers[i]);
}
