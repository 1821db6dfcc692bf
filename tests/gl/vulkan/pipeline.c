// How the scene is drawn: its render pass and its two pipelines.
#include "mesh.h"
#include "vulkan.h"
#include "fragment.spv.h"
#include "vertex.spv.h"
#include <stddef.h>

void make_pass(struct gpu *gpu, struct scene *scene, VkFormat colour, VkFormat depth) {
    VkAttachmentDescription attachments[] = {
        {.format = colour, .samples = VK_SAMPLE_COUNT_1_BIT, .loadOp = VK_ATTACHMENT_LOAD_OP_CLEAR, .storeOp = VK_ATTACHMENT_STORE_OP_STORE,
         .initialLayout = VK_IMAGE_LAYOUT_UNDEFINED, .finalLayout = VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL},
        {.format = depth, .samples = VK_SAMPLE_COUNT_1_BIT, .loadOp = VK_ATTACHMENT_LOAD_OP_CLEAR, .storeOp = VK_ATTACHMENT_STORE_OP_DONT_CARE,
         .stencilLoadOp = VK_ATTACHMENT_LOAD_OP_DONT_CARE, .stencilStoreOp = VK_ATTACHMENT_STORE_OP_DONT_CARE,
         .initialLayout = VK_IMAGE_LAYOUT_UNDEFINED, .finalLayout = VK_IMAGE_LAYOUT_DEPTH_STENCIL_ATTACHMENT_OPTIMAL},
    };
    VkAttachmentReference drawn = {0, VK_IMAGE_LAYOUT_COLOR_ATTACHMENT_OPTIMAL}, tested = {1, VK_IMAGE_LAYOUT_DEPTH_STENCIL_ATTACHMENT_OPTIMAL};
    VkSubpassDescription subpass = {
        .pipelineBindPoint = VK_PIPELINE_BIND_POINT_GRAPHICS, .colorAttachmentCount = 1, .pColorAttachments = &drawn, .pDepthStencilAttachment = &tested};
    // The copy reads what the pass has drawn; the next pass waits for this one's.
    VkPipelineStageFlags tests = VK_PIPELINE_STAGE_EARLY_FRAGMENT_TESTS_BIT | VK_PIPELINE_STAGE_LATE_FRAGMENT_TESTS_BIT;
    VkPipelineStageFlags draws = VK_PIPELINE_STAGE_COLOR_ATTACHMENT_OUTPUT_BIT;
    VkAccessFlags written = VK_ACCESS_COLOR_ATTACHMENT_WRITE_BIT, depths = VK_ACCESS_DEPTH_STENCIL_ATTACHMENT_WRITE_BIT;
    VkSubpassDependency dependencies[] = {
        {VK_SUBPASS_EXTERNAL, 0, draws | tests | VK_PIPELINE_STAGE_TRANSFER_BIT, draws | tests, depths, written | depths | VK_ACCESS_DEPTH_STENCIL_ATTACHMENT_READ_BIT, 0},
        {0, VK_SUBPASS_EXTERNAL, draws, VK_PIPELINE_STAGE_TRANSFER_BIT, written, VK_ACCESS_TRANSFER_READ_BIT, 0},
    };
    VkRenderPassCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_RENDER_PASS_CREATE_INFO, .attachmentCount = COUNT(attachments), .pAttachments = attachments,
        .subpassCount = 1, .pSubpasses = &subpass, .dependencyCount = COUNT(dependencies), .pDependencies = dependencies};
    TRY(vkCreateRenderPass, gpu->device, &info, NULL, &scene->pass);
}

static const VkVertexInputBindingDescription BINDINGS[] = {
    {0, sizeof(struct vertex), VK_VERTEX_INPUT_RATE_VERTEX},
    {1, sizeof(struct instance), VK_VERTEX_INPUT_RATE_INSTANCE},
};
static const VkVertexInputAttributeDescription ATTRIBUTES[] = {
    {0, 0, VK_FORMAT_R32G32B32_SFLOAT, offsetof(struct vertex, place)},
    {1, 0, VK_FORMAT_R32G32B32_SFLOAT, offsetof(struct vertex, normal)},
    {2, 0, VK_FORMAT_R32G32_SFLOAT, offsetof(struct vertex, at)},
    {3, 1, VK_FORMAT_R32G32B32_SFLOAT, offsetof(struct instance, place)},
    {4, 1, VK_FORMAT_R32G32B32_SFLOAT, offsetof(struct instance, size)},
    {5, 1, VK_FORMAT_R32G32B32A32_SFLOAT, offsetof(struct instance, colour)},
};

// What both pipelines have, with the blending of one of them.
static VkPipeline make_pipeline(struct gpu *gpu, struct scene *scene, const VkPipelineShaderStageCreateInfo stages[2], VkBool32 glass) {
    VkPipelineVertexInputStateCreateInfo input = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_VERTEX_INPUT_STATE_CREATE_INFO, .vertexBindingDescriptionCount = COUNT(BINDINGS),
        .pVertexBindingDescriptions = BINDINGS, .vertexAttributeDescriptionCount = COUNT(ATTRIBUTES), .pVertexAttributeDescriptions = ATTRIBUTES};
    VkPipelineInputAssemblyStateCreateInfo assembly = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_INPUT_ASSEMBLY_STATE_CREATE_INFO, .topology = VK_PRIMITIVE_TOPOLOGY_TRIANGLE_LIST};
    VkViewport viewport = {0, 0, (float)scene->width, (float)scene->height, 0, 1};
    VkRect2D scissor = {{0, 0}, {scene->width, scene->height}};
    VkPipelineViewportStateCreateInfo view = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_VIEWPORT_STATE_CREATE_INFO, .viewportCount = 1, .pViewports = &viewport, .scissorCount = 1, .pScissors = &scissor};
    VkPipelineRasterizationStateCreateInfo raster = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_RASTERIZATION_STATE_CREATE_INFO, .polygonMode = VK_POLYGON_MODE_FILL, .cullMode = VK_CULL_MODE_NONE, .lineWidth = 1};
    VkPipelineMultisampleStateCreateInfo samples = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_MULTISAMPLE_STATE_CREATE_INFO, .rasterizationSamples = VK_SAMPLE_COUNT_1_BIT};
    VkPipelineDepthStencilStateCreateInfo depth = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_DEPTH_STENCIL_STATE_CREATE_INFO, .depthTestEnable = VK_TRUE, .depthWriteEnable = !glass,
        .depthCompareOp = VK_COMPARE_OP_LESS};
    VkPipelineColorBlendAttachmentState blend = {
        glass, VK_BLEND_FACTOR_SRC_ALPHA, VK_BLEND_FACTOR_ONE_MINUS_SRC_ALPHA, VK_BLEND_OP_ADD, VK_BLEND_FACTOR_ONE, VK_BLEND_FACTOR_ZERO, VK_BLEND_OP_ADD,
        VK_COLOR_COMPONENT_R_BIT | VK_COLOR_COMPONENT_G_BIT | VK_COLOR_COMPONENT_B_BIT | VK_COLOR_COMPONENT_A_BIT};
    VkPipelineColorBlendStateCreateInfo blends = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_COLOR_BLEND_STATE_CREATE_INFO, .attachmentCount = 1, .pAttachments = &blend};
    VkGraphicsPipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_GRAPHICS_PIPELINE_CREATE_INFO, .stageCount = 2, .pStages = stages, .pVertexInputState = &input,
        .pInputAssemblyState = &assembly, .pViewportState = &view, .pRasterizationState = &raster, .pMultisampleState = &samples,
        .pDepthStencilState = &depth, .pColorBlendState = &blends, .layout = scene->layout, .renderPass = scene->pass};
    VkPipeline pipeline;
    TRY(vkCreateGraphicsPipelines, gpu->device, VK_NULL_HANDLE, 1, &info, NULL, &pipeline);
    return pipeline;
}

void make_pipelines(struct gpu *gpu, struct scene *scene) {
    VkPipelineLayoutCreateInfo layout = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO, .setLayoutCount = 1, .pSetLayouts = &scene->set_layout};
    TRY(vkCreatePipelineLayout, gpu->device, &layout, NULL, &scene->layout);
    VkShaderModule vertex = load_shader(gpu, vertex_spirv, sizeof vertex_spirv), fragment = load_shader(gpu, fragment_spirv, sizeof fragment_spirv);
    VkPipelineShaderStageCreateInfo stages[] = {
        {VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO, NULL, 0, VK_SHADER_STAGE_VERTEX_BIT, vertex, "main", NULL},
        {VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO, NULL, 0, VK_SHADER_STAGE_FRAGMENT_BIT, fragment, "main", NULL},
    };
    for (VkBool32 glass = 0; glass < 2; glass++) scene->pipelines[glass] = make_pipeline(gpu, scene, stages, glass);
    vkDestroyShaderModule(gpu->device, vertex, NULL);
    vkDestroyShaderModule(gpu->device, fragment, NULL);
}
