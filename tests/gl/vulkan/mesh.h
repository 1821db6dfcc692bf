// The scene's things as the vertex shader takes them.
#ifndef MESH_H
#define MESH_H
#include <stdint.h>

struct vertex {
    float place[3], normal[3], at[2];
};

// One of a mesh: where it stands, how large it is along each axis, and its colour.
struct instance {
    float place[3], size[3], colour[4];
};

// A matrix by columns, and the direction that light comes from.
struct camera {
    float view[16], light[4];
};

// A field of cubes, COLUMNS by ROWS, is one draw; the ground and the glass are one instance each.
enum { COLUMNS = 22, ROWS = 16, CUBES = COLUMNS * ROWS, GROUND = CUBES, GLASS, INSTANCES };
enum { CUBE_INDICES = 36, GROUND_INDICES = 6, GLASS_INDICES = 9, INDICES = CUBE_INDICES + GROUND_INDICES + GLASS_INDICES };
enum { VERTICES = 24 + 4 + GLASS_INDICES, SIDE = 64 };

void make_mesh(struct vertex vertices[VERTICES], uint16_t indices[INDICES]);
void make_instances(struct instance instances[INSTANCES]);
void make_texture(uint8_t texels[SIDE][SIDE][4]);
void make_camera(struct camera *camera, float aspect);
#endif
