// What the programs that draw the scene share. Whatever fails is said on standard error and ends the program.
#ifndef SCENE_H
#define SCENE_H
#define EGL_EGLEXT_PROTOTYPES
#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <GLES2/gl2.h>

void fail(const char *what, unsigned code);
// A context of OpenGL ES 2 for surfaces of a kind and, unless `visual` is 0, of that native visual.
EGLContext begin(EGLDisplay display, EGLint surface, EGLint visual, EGLConfig *config);
// A framebuffer of this size becomes the one that is drawn to.
void target(int width, int height);
// Draws everything over the whole of the framebuffer.
void scene(void);
// Writes what is drawn as a PPM, top row first.
void picture(const char *path, int width, int height);
#endif
