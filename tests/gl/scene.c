// A scene that needs depth, textures, blending and a loop in a shader; the two programs beside this file draw it, one without
// a window, one on the guest's screen.
#include "scene.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SIDE = 64 };

void fail(const char *what, unsigned code) {
    fprintf(stderr, "scene: %s (0x%x)\n", what, code);
    exit(1);
}

static GLuint shader(GLenum kind, const char *source) {
    GLuint shader = glCreateShader(kind);
    GLint good;
    char log[1000];
    glShaderSource(shader, 1, &source, NULL);
    glCompileShader(shader);
    glGetShaderiv(shader, GL_COMPILE_STATUS, &good);
    if (!good) {
        glGetShaderInfoLog(shader, sizeof log, NULL, log);
        fail(log, kind);
    }
    return shader;
}

static const char *VERTEX =
    "attribute vec3 place; attribute vec2 spot; uniform vec4 turn; varying vec2 at; varying float depth;\n"
    "void main() {\n"
    "  vec3 p = vec3(place.x * turn.x - place.z * turn.y, place.y, place.x * turn.y + place.z * turn.x);\n"
    "  p.y = p.y * turn.x + p.z * 0.3; p.xy += turn.zw;\n"
    "  at = spot; depth = p.z; gl_Position = vec4(p.xy, p.z * 0.5, 1.0 + p.z * 0.25);\n"
    "}\n";

static const char *FRAGMENT =
    "precision highp float; varying vec2 at; varying float depth; uniform sampler2D wood; uniform vec4 tint;\n"
    "void main() {\n"
    "  vec2 z = at * 2.0 - 1.0; float steps = 0.0;\n"
    "  for (int i = 0; i < 24; i++) { if (dot(z, z) < 4.0) { z = vec2(z.x * z.x - z.y * z.y, 2.0 * z.x * z.y) + vec2(-0.4, 0.6); steps += 1.0; } }\n"
    "  vec4 colour = texture2D(wood, at * 3.0) * (0.35 + steps / 36.0);\n"
    "  gl_FragColor = vec4(colour.rgb * tint.rgb * (1.0 - 0.3 * depth), tint.a);\n"
    "}\n";

// A cube's faces, two triangles each.
static int cube(GLfloat *into) {
    static const int corners[6] = {0, 1, 2, 2, 1, 3};
    int n = 0;
    for (int face = 0; face < 6; face++)
        for (int i = 0; i < 6; i++) {
            GLfloat u = (GLfloat)(corners[i] & 1), v = (GLfloat)(corners[i] >> 1), p[3];
            int axis = face >> 1;
            p[axis] = face & 1 ? 0.5f : -0.5f;
            p[(axis + 1) % 3] = u - 0.5f;
            p[(axis + 2) % 3] = v - 0.5f;
            for (int k = 0; k < 3; k++) into[n++] = p[k];
            into[n++] = u;
            into[n++] = v;
        }
    return n / 5;
}

static void draw(GLuint program, GLfloat angle, GLfloat x, GLfloat y, const GLfloat tint[4], int vertices) {
    glUniform4f(glGetUniformLocation(program, "turn"), cosf(angle), sinf(angle), x, y);
    glUniform4fv(glGetUniformLocation(program, "tint"), 1, tint);
    glDrawArrays(GL_TRIANGLES, 0, vertices);
}

void scene(void) {
    static GLubyte wood[SIDE][SIDE][4];
    static GLfloat mesh[6 * 6 * 5];
    static const GLfloat red[] = {1.0f, 0.55f, 0.4f, 1.0f}, blue[] = {0.4f, 0.7f, 1.0f, 1.0f}, glass[] = {0.6f, 1.0f, 0.6f, 0.5f};
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            wood[y][x][0] = (GLubyte)(128 + (x ^ y) * 2 % 128);
            wood[y][x][1] = (GLubyte)(96 + x * 2);
            wood[y][x][2] = (GLubyte)(64 + y * 2);
            wood[y][x][3] = 255;
        }
    GLuint texture, buffer, program = glCreateProgram();
    glGenTextures(1, &texture);
    glBindTexture(GL_TEXTURE_2D, texture);
    glTexImage2D(GL_TEXTURE_2D, 0, GL_RGBA, SIDE, SIDE, 0, GL_RGBA, GL_UNSIGNED_BYTE, wood);
    glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, GL_LINEAR);
    glAttachShader(program, shader(GL_VERTEX_SHADER, VERTEX));
    glAttachShader(program, shader(GL_FRAGMENT_SHADER, FRAGMENT));
    glBindAttribLocation(program, 0, "place");
    glBindAttribLocation(program, 1, "spot");
    glLinkProgram(program);
    glUseProgram(program);
    int vertices = cube(mesh);
    glGenBuffers(1, &buffer);
    glBindBuffer(GL_ARRAY_BUFFER, buffer);
    glBufferData(GL_ARRAY_BUFFER, sizeof mesh, mesh, GL_STATIC_DRAW);
    glVertexAttribPointer(0, 3, GL_FLOAT, GL_FALSE, 20, (void *)0);
    glVertexAttribPointer(1, 2, GL_FLOAT, GL_FALSE, 20, (void *)12);
    glEnableVertexAttribArray(0);
    glEnableVertexAttribArray(1);
    glEnable(GL_DEPTH_TEST);
    glDisable(GL_BLEND);
    glClearColor(0.08f, 0.09f, 0.14f, 1.0f);
    glClear(GL_COLOR_BUFFER_BIT | GL_DEPTH_BUFFER_BIT);
    draw(program, 0.6f, -0.3f, 0.1f, red, vertices);
    draw(program, 1.9f, 0.3f, -0.2f, blue, vertices);
    glEnable(GL_BLEND);
    glBlendFunc(GL_SRC_ALPHA, GL_ONE_MINUS_SRC_ALPHA);
    draw(program, 2.6f, 0.05f, 0.25f, glass, vertices);
}

void target(int width, int height) {
    GLuint colour, depth, frame;
    glGenTextures(1, &colour);
    glBindTexture(GL_TEXTURE_2D, colour);
    glTexImage2D(GL_TEXTURE_2D, 0, GL_RGBA, width, height, 0, GL_RGBA, GL_UNSIGNED_BYTE, NULL);
    glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, GL_NEAREST);
    glGenRenderbuffers(1, &depth);
    glBindRenderbuffer(GL_RENDERBUFFER, depth);
    glRenderbufferStorage(GL_RENDERBUFFER, GL_DEPTH_COMPONENT16, width, height);
    glGenFramebuffers(1, &frame);
    glBindFramebuffer(GL_FRAMEBUFFER, frame);
    glFramebufferTexture2D(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, colour, 0);
    glFramebufferRenderbuffer(GL_FRAMEBUFFER, GL_DEPTH_ATTACHMENT, GL_RENDERBUFFER, depth);
    GLenum complete = glCheckFramebufferStatus(GL_FRAMEBUFFER);
    if (complete != GL_FRAMEBUFFER_COMPLETE) fail("the framebuffer is not complete", complete);
    glViewport(0, 0, width, height);
}

void picture(const char *path, int width, int height) {
    GLubyte *pixels = malloc((size_t)width * (size_t)height * 4);
    if (!pixels) fail("no memory for the picture", 0);
    glReadPixels(0, 0, width, height, GL_RGBA, GL_UNSIGNED_BYTE, pixels);
    GLenum error = glGetError();
    if (error) fail("an error of OpenGL", error);
    FILE *file = fopen(path, "wb");
    if (!file) fail("the picture cannot be written", 0);
    fprintf(file, "P6\n%d %d\n255\n", width, height);
    for (int y = height - 1; y >= 0; y--)
        for (int x = 0; x < width; x++) fwrite(pixels + 4 * (y * width + x), 3, 1, file);
    if (fclose(file)) fail("the picture cannot be written", 0);
    free(pixels);
}

EGLContext begin(EGLDisplay display, EGLint surface, EGLint visual, EGLConfig *config) {
    EGLConfig all[64];
    EGLint wanted[] = {EGL_SURFACE_TYPE, surface, EGL_RENDERABLE_TYPE, EGL_OPENGL_ES2_BIT, EGL_DEPTH_SIZE, 16, EGL_NONE};
    EGLint version[] = {EGL_CONTEXT_CLIENT_VERSION, 2, EGL_NONE}, count, own;
    if (!eglInitialize(display, NULL, NULL)) fail("eglInitialize", (unsigned)eglGetError());
    eglBindAPI(EGL_OPENGL_ES_API);
    if (!eglChooseConfig(display, wanted, all, 64, &count)) fail("eglChooseConfig", (unsigned)eglGetError());
    for (int i = 0; i < count; i++) {
        if (visual && (!eglGetConfigAttrib(display, all[i], EGL_NATIVE_VISUAL_ID, &own) || own != visual)) continue;
        *config = all[i];
        EGLContext context = eglCreateContext(display, all[i], EGL_NO_CONTEXT, version);
        if (context == EGL_NO_CONTEXT) fail("eglCreateContext", (unsigned)eglGetError());
        return context;
    }
    fail("EGL has no such configuration", (unsigned)count);
    return EGL_NO_CONTEXT;
}
