// The scene without a window, written as a picture: the same program in a guest and on the host, whose pictures are compared.
// Says which renderer drew it.
#include "scene.h"
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    if (argc != 2 && argc != 4) fail("usage: off_screen PICTURE.ppm [WIDTH HEIGHT]", (unsigned)argc);
    int width = argc == 4 ? atoi(argv[2]) : 512, height = argc == 4 ? atoi(argv[3]) : 384;
    EGLDisplay display = eglGetPlatformDisplay(EGL_PLATFORM_SURFACELESS_MESA, EGL_DEFAULT_DISPLAY, NULL);
    EGLConfig config;
    EGLContext context = begin(display, EGL_PBUFFER_BIT, 0, &config);
    if (!eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, context)) fail("eglMakeCurrent", (unsigned)eglGetError());
    printf("scene: renderer %s, version %s\n", glGetString(GL_RENDERER), glGetString(GL_VERSION));
    target(width, height);
    scene();
    picture(argv[1], width, height);
    return 0;
}
