// A Vulkan program as any other, the same in a guest and on the host: computes over a buffer and checks every word, then draws a scene
// without a window and writes it as a picture. With --loop it draws that again and again, and says how often a second;
// with --many it has many memories before.
#include "vulkan.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WIDTH = 512, HEIGHT = 384 };

static void picture(const char *path, const struct scene *scene) {
    const uint8_t *pixels = scene->pixels.mapped;
    FILE *file = fopen(path, "wb");
    if (!file) fail("the picture cannot be written");
    fprintf(file, "P6\n%u %u\n255\n", scene->width, scene->height);
    for (size_t i = 0; i < (size_t)scene->width * scene->height; i++) fwrite(pixels + 4 * i, 3, 1, file);
    if (fclose(file)) fail("the picture cannot be written");
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

// Each picture is drawn into the same place, which was cleared, and must be as the first.
static void loop(struct gpu *gpu, struct scene *scene, double seconds) {
    uint8_t *first = malloc(scene->pixels.bytes);
    if (!first) fail("no memory for a picture");
    memcpy(first, scene->pixels.mapped, scene->pixels.bytes);
    unsigned frames = 0;
    double start = now(), took;
    do {
        memset(scene->pixels.mapped, 0, scene->pixels.bytes);
        run(gpu, scene->draw);
        if (memcmp(first, scene->pixels.mapped, scene->pixels.bytes)) fail("a scene that was drawn again differs from the first");
        frames++;
        took = now() - start;
    } while (took < seconds);
    printf("vulkan: loop: %u frames in %.1f s, %.1f frames a second\n", frames, took, frames / took);
    free(first);
}

// A number that is the whole of `text`.
static double number(const char *text, double most) {
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end || !(number >= 0 && number <= most)) fail("an argument is no number that can be used");
    return number;
}

int main(int argc, char **argv) {
    static const char usage[] = "usage: vulkan_scene [--device NUMBER] [--many COUNT] [--loop SECONDS] PICTURE.ppm; without --device VULKAN_SCENE_DEVICE's, or the first";
    const char *path = NULL, *device = getenv("VULKAN_SCENE_DEVICE");
    double seconds = 0, memories = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--device") && i + 1 < argc)
            device = argv[++i];
        else if (!strcmp(argv[i], "--loop") && i + 1 < argc)
            seconds = number(argv[++i], 86400);
        else if (!strcmp(argv[i], "--many") && i + 1 < argc)
            memories = number(argv[++i], 4096);
        else if (argv[i][0] != '-' && !path)
            path = argv[i];
        else
            fail(usage);
    }
    if (!path) fail(usage);
    struct gpu gpu;
    open_gpu(&gpu, "vulkan_scene", device ? (uint32_t)number(device, 15) : 0);
    if (memories > 0) many(&gpu, (uint32_t)memories);
    printf("vulkan: compute: all of %u words are right\n", compute(&gpu));
    fflush(stdout);
    struct scene scene = make_scene(&gpu, WIDTH, HEIGHT);
    run(&gpu, scene.draw);
    picture(path, &scene);
    printf("vulkan: scene: %u by %u\n", scene.width, scene.height);
    fflush(stdout);
    if (seconds > 0) loop(&gpu, &scene, seconds);
    end_scene(&gpu, &scene);
    close_gpu(&gpu);
    return 0;
}
