// As many memories as there are to be had, each of which the host sees at once: a front end has a bound for such regions, and whoever
// asks for more is to hear so.
#include "vulkan.h"
#include <stdio.h>
#include <stdlib.h>

// More than drivers put into one region with others.
enum { BYTES = 2 << 20 };

static uint32_t word(uint32_t number) { return number * 2654435761u + 1; }

static void judge(const uint32_t *words, uint32_t number) {
    if (words[0] == word(number) && words[BYTES / 4 - 1] == ~word(number)) return;
    fprintf(stderr, "vulkan: many: memory %u has 0x%08x and 0x%08x\n", number, words[0], words[BYTES / 4 - 1]);
    exit(1);
}

void many(struct gpu *gpu, uint32_t wanted) {
    struct memory {
        VkDeviceMemory handle;
        uint32_t *words;
    } *all = calloc(wanted, sizeof *all);
    if (!all) fail("no memory for a list of memories");
    VkMemoryAllocateInfo info = {VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, NULL, BYTES, memory_kind(gpu, ~0u, HOST)};
    uint32_t had = 0;
    const char *refused = "none was refused";
    for (; had < wanted; had++) {
        VkResult result = vkAllocateMemory(gpu->device, &info, NULL, &all[had].handle);
        if (result != VK_SUCCESS) {
            refused = name_of(result);
            break;
        }
        void *words;
        result = vkMapMemory(gpu->device, all[had].handle, 0, VK_WHOLE_SIZE, 0, &words);
        if (result != VK_SUCCESS) {
            vkFreeMemory(gpu->device, all[had].handle, NULL);
            refused = name_of(result);
            break;
        }
        all[had].words = words;
        all[had].words[0] = word(had);
        all[had].words[BYTES / 4 - 1] = ~word(had);
    }
    for (uint32_t i = 0; i < had; i++) {
        judge(all[i].words, i);
        vkFreeMemory(gpu->device, all[i].handle, NULL);
    }
    free(all);
    printf("vulkan: many: %u of %u memories, %s\n", had, wanted, refused);
}
