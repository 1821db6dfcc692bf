// A shader over a buffer: the words go from the host's memory to the device's own, are computed there, and come back; then every one
// is computed here.
#include "vulkan.h"
#include "compute.spv.h"
#include <stdio.h>
#include <stdlib.h>

// Not a multiple of a group, so that the last one is not full.
enum { WORDS = 100003, GROUP = 64, ROUNDS = 16 };

static uint32_t given(uint32_t at) { return at * 2246822519u ^ at >> 7; }

static uint32_t scrambled(uint32_t word) {
    for (uint32_t round = 0; round < ROUNDS; round++) {
        word ^= word << 13;
        word ^= word >> 17;
        word ^= word << 5;
        word = word * 2654435761u + round;
    }
    return word;
}

static void judge(const uint32_t *made) {
    uint32_t group[GROUP];
    for (uint32_t at = 0; at < WORDS; at++) {
        uint32_t joined = at;
        group[at % GROUP] = scrambled(given(at));
        for (uint32_t i = 0; i <= at % GROUP; i++) joined = joined * 31 + group[i];
        if (made[at] == joined) continue;
        fprintf(stderr, "vulkan: compute: word %u is 0x%08x, and ought to be 0x%08x\n", at, made[at], joined);
        exit(1);
    }
}

struct shader {
    VkDescriptorSetLayout set_layout;
    VkPipelineLayout layout;
    VkPipeline pipeline;
};

static struct shader make_shader(struct gpu *gpu) {
    struct shader shader;
    VkDescriptorSetLayoutBinding bindings[] = {
        {0, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1, VK_SHADER_STAGE_COMPUTE_BIT, NULL},
        {1, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1, VK_SHADER_STAGE_COMPUTE_BIT, NULL},
    };
    VkDescriptorSetLayoutCreateInfo sets = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO, .bindingCount = 2, .pBindings = bindings};
    TRY(vkCreateDescriptorSetLayout, gpu->device, &sets, NULL, &shader.set_layout);
    VkPushConstantRange constants = {VK_SHADER_STAGE_COMPUTE_BIT, 0, 2 * sizeof(uint32_t)};
    VkPipelineLayoutCreateInfo layout = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO, .setLayoutCount = 1, .pSetLayouts = &shader.set_layout,
        .pushConstantRangeCount = 1, .pPushConstantRanges = &constants};
    TRY(vkCreatePipelineLayout, gpu->device, &layout, NULL, &shader.layout);
    VkShaderModule module = load_shader(gpu, compute_spirv, sizeof compute_spirv);
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO, NULL, 0, VK_SHADER_STAGE_COMPUTE_BIT, module, "main", NULL},
        .layout = shader.layout};
    TRY(vkCreateComputePipelines, gpu->device, VK_NULL_HANDLE, 1, &info, NULL, &shader.pipeline);
    vkDestroyShaderModule(gpu->device, module, NULL);
    return shader;
}

static VkDescriptorPool bind(struct gpu *gpu, VkDescriptorSetLayout layout, const struct buffer buffers[2], VkDescriptorSet *set) {
    VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 2};
    VkDescriptorPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO, .maxSets = 1, .poolSizeCount = 1, .pPoolSizes = &size};
    VkDescriptorPool pool;
    TRY(vkCreateDescriptorPool, gpu->device, &info, NULL, &pool);
    VkDescriptorSetAllocateInfo sets = {VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO, NULL, pool, 1, &layout};
    TRY(vkAllocateDescriptorSets, gpu->device, &sets, set);
    VkDescriptorBufferInfo all[] = {{buffers[0].handle, 0, VK_WHOLE_SIZE}, {buffers[1].handle, 0, VK_WHOLE_SIZE}};
    VkWriteDescriptorSet write = {
        .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET, .dstSet = *set, .dstBinding = 0, .descriptorCount = 1,
        .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER};
    for (uint32_t i = 0; i < 2; i++) {
        write.dstBinding = i;
        write.pBufferInfo = all + i;
        vkUpdateDescriptorSets(gpu->device, 1, &write, 0, NULL);
    }
    return pool;
}

uint32_t compute(struct gpu *gpu) {
    const VkDeviceSize bytes = WORDS * sizeof(uint32_t);
    struct buffer staging = make_buffer(gpu, bytes, VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT, HOST);
    struct buffer own[] = {
        make_buffer(gpu, bytes, VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT, DEVICE),
        make_buffer(gpu, bytes, VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT, DEVICE),
    };
    uint32_t *words = staging.mapped, constants[] = {WORDS, ROUNDS};
    for (uint32_t at = 0; at < WORDS; at++) words[at] = given(at);
    struct shader shader = make_shader(gpu);
    VkDescriptorSet set;
    VkDescriptorPool pool = bind(gpu, shader.set_layout, own, &set);
    VkBufferCopy all = {0, 0, bytes};
    VkCommandBuffer commands = begin_commands(gpu);
    vkCmdCopyBuffer(commands, staging.handle, own[0].handle, 1, &all);
    memory_barrier(commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_READ_BIT);
    vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, shader.pipeline);
    vkCmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, shader.layout, 0, 1, &set, 0, NULL);
    vkCmdPushConstants(commands, shader.layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof constants, constants);
    vkCmdDispatch(commands, (WORDS + GROUP - 1) / GROUP, 1, 1);
    memory_barrier(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_WRITE_BIT, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_READ_BIT);
    vkCmdCopyBuffer(commands, own[1].handle, staging.handle, 1, &all);
    memory_barrier(commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
    run_once(gpu, commands);
    judge(words);
    vkDestroyDescriptorPool(gpu->device, pool, NULL);
    vkDestroyPipeline(gpu->device, shader.pipeline, NULL);
    vkDestroyPipelineLayout(gpu->device, shader.layout, NULL);
    vkDestroyDescriptorSetLayout(gpu->device, shader.set_layout, NULL);
    for (int i = 0; i < 2; i++) end_buffer(gpu, own + i);
    end_buffer(gpu, &staging);
    return WORDS;
}
