// The scene's geometry, texture and camera, made on the CPU.
#include "mesh.h"
#include <math.h>
#include <string.h>

// A cube's six faces, the ground's quad and three standing triangles.
void make_mesh(struct vertex vertices[VERTICES], uint16_t indices[INDICES]) {
    static const uint16_t corners[6] = {0, 1, 2, 2, 1, 3};
    static const float ground[4][2] = {{-1, -1}, {1, -1}, {-1, 1}, {1, 1}};
    struct vertex *vertex = vertices;
    uint16_t *index = indices;
    for (int face = 0; face < 6; face++) {
        for (int i = 0; i < 6; i++) *index++ = (uint16_t)(face * 4 + corners[i]);
        for (int corner = 0; corner < 4; corner++, vertex++) {
            int axis = face >> 1;
            float u = (float)(corner & 1), v = (float)(corner >> 1);
            memset(vertex, 0, sizeof *vertex);
            vertex->place[axis] = face & 1 ? 0.5f : -0.5f;
            vertex->place[(axis + 1) % 3] = u - 0.5f;
            vertex->place[(axis + 2) % 3] = v - 0.5f;
            vertex->normal[axis] = face & 1 ? 1.0f : -1.0f;
            vertex->at[0] = u;
            vertex->at[1] = v;
        }
    }
    for (int i = 0; i < GROUND_INDICES; i++) *index++ = (uint16_t)(24 + corners[i]);
    for (int corner = 0; corner < 4; corner++, vertex++)
        *vertex = (struct vertex){{ground[corner][0], 0, ground[corner][1]}, {0, 1, 0}, {ground[corner][0] * 6, ground[corner][1] * 6}};
    for (int i = 0; i < GLASS_INDICES; i++, vertex++) {
        float turn = (float)(i / 3) * 2.1f, along = (float)(i % 3 - 1), up = i % 3 == 1 ? 1.0f : 0.0f;
        *index++ = (uint16_t)(28 + i);
        *vertex = (struct vertex){{along * cosf(turn) + (float)(i / 3 - 1) * 1.7f, up, along * sinf(turn)}, {0, 1, 0}, {along, up}};
    }
}

void make_instances(struct instance instances[INSTANCES]) {
    for (int i = 0; i < CUBES; i++) {
        float x = (float)(i % COLUMNS) - (COLUMNS - 1) * 0.5f, z = (float)(i / COLUMNS) - (ROWS - 1) * 0.5f;
        float far = sqrtf(x * x + z * z), height = 1.6f + 1.3f * cosf(far * 0.8f);
        float hue = (float)(i % COLUMNS) / COLUMNS, depth = (float)(i / COLUMNS) / ROWS;
        instances[i] = (struct instance){{x, height * 0.5f, z}, {0.72f, height, 0.72f}, {0.35f + 0.65f * hue, 0.75f - 0.4f * depth, 1.0f - 0.7f * hue, 1.0f}};
    }
    instances[GROUND] = (struct instance){{0, 0, 0}, {COLUMNS * 0.6f, 1, ROWS * 0.6f}, {0.5f, 0.6f, 0.7f, 1.0f}};
    instances[GLASS] = (struct instance){{0, 0, 3.5f}, {3.4f, 6.5f, 3.4f}, {0.6f, 1.0f, 0.7f, 0.45f}};
}

void make_texture(uint8_t texels[SIDE][SIDE][4]) {
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            texels[y][x][0] = (uint8_t)(128 + (x ^ y) * 2 % 128);
            texels[y][x][1] = (uint8_t)(128 + ((x + y) & 31) * 4);
            texels[y][x][2] = (uint8_t)(128 + ((x >> 3 ^ y >> 3) & 1) * 120);
            texels[y][x][3] = 255;
        }
}

static void normalise(float v[3]) {
    float length = sqrtf(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
    for (int i = 0; i < 3; i++) v[i] /= length;
}

static void cross(const float a[3], const float b[3], float into[3]) {
    for (int i = 0; i < 3; i++) into[i] = a[(i + 1) % 3] * b[(i + 2) % 3] - a[(i + 2) % 3] * b[(i + 1) % 3];
}

// From a place above the field's edge to its middle. Vulkan's y goes down, and depth from 0 to 1.
void make_camera(struct camera *camera, float aspect) {
    static const float eye[3] = {9.0f, 13.0f, 18.0f}, up[3] = {0, 1, 0}, target[3] = {0.6f, 0.5f, 0.9f};
    const float near = 1.0f, far = 60.0f, scale = 1.0f / tanf(0.45f);
    float ahead[3], right[3], above[3], light[4] = {0.4f, 0.8f, 0.45f, 0};
    for (int i = 0; i < 3; i++) ahead[i] = target[i] - eye[i];
    normalise(ahead);
    cross(ahead, up, right);
    normalise(right);
    cross(right, ahead, above);
    normalise(light);
    memcpy(camera->light, light, sizeof light);
    const float *rows[3] = {right, above, ahead};
    float places[3] = {0};
    for (int row = 0; row < 3; row++)
        for (int i = 0; i < 3; i++) places[row] -= rows[row][i] * eye[i];
    for (int column = 0; column < 4; column++) {
        float x = column < 3 ? right[column] : places[0], y = column < 3 ? above[column] : places[1], z = column < 3 ? ahead[column] : places[2];
        float *into = camera->view + 4 * column;
        into[0] = x * scale / aspect;
        into[1] = -y * scale;
        into[2] = (z - (column == 3 ? near : 0)) * far / (far - near);
        into[3] = z;
    }
}
