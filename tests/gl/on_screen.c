// The scene on a display by KMS, as a compositor shows it: drawn without a window first, which is written as a picture, then into
// buffers that the display scans out. One in plain red is set as the mode's, the scene follows by a page flip. Says `shown` and
// leaves it there until its standard input ends.
#include "scene.h"
#include <errno.h>
#include <fcntl.h>
#include <gbm.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

// The display: its connector's preferred mode on the first CRTC that it can have.
struct display {
    int card;
    uint32_t connector, crtc;
    drmModeModeInfo mode;
};

static void find(struct display *display, const char *card) {
    display->card = open(card, O_RDWR | O_CLOEXEC);
    if (display->card < 0) fail("the card cannot be opened", (unsigned)errno);
    drmModeRes *all = drmModeGetResources(display->card);
    if (!all || all->count_crtcs < 1) fail("the card has no display", (unsigned)errno);
    for (int i = 0; i < all->count_connectors; i++) {
        drmModeConnector *connector = drmModeGetConnector(display->card, all->connectors[i]);
        if (!connector || connector->connection != DRM_MODE_CONNECTED || connector->count_modes < 1) continue;
        display->connector = connector->connector_id;
        // The preferred one comes first.
        display->mode = connector->modes[0];
        drmModeEncoder *encoder = drmModeGetEncoder(display->card, connector->encoders[0]);
        if (!encoder) fail("the connector has no encoder", (unsigned)errno);
        for (int crtc = all->count_crtcs - 1; crtc >= 0; crtc--)
            if (encoder->possible_crtcs & 1u << crtc) display->crtc = all->crtcs[crtc];
        return;
    }
    fail("no display is connected", (unsigned)all->count_connectors);
}

// What has just been drawn to `surface`, as a framebuffer of the card.
static uint32_t drawn(struct display *display, struct gbm_surface *surface) {
    struct gbm_bo *buffer = gbm_surface_lock_front_buffer(surface);
    uint32_t framebuffer;
    if (!buffer) fail("nothing was drawn", (unsigned)errno);
    if (drmModeAddFB(display->card, gbm_bo_get_width(buffer), gbm_bo_get_height(buffer), 24, 32, gbm_bo_get_stride(buffer),
                     gbm_bo_get_handle(buffer).u32, &framebuffer))
        fail("the buffer cannot be shown", (unsigned)errno);
    return framebuffer;
}

static void flipped(int card, unsigned frame, unsigned s, unsigned us, void *done) {
    (void)card, (void)frame, (void)s, (void)us;
    *(int *)done = 1;
}

static void flip(struct display *display, uint32_t framebuffer) {
    drmEventContext events = {.version = 2, .page_flip_handler = flipped};
    struct pollfd ready = {.fd = display->card, .events = POLLIN};
    int done = 0;
    if (drmModePageFlip(display->card, display->crtc, framebuffer, DRM_MODE_PAGE_FLIP_EVENT, &done)) fail("the page flip", (unsigned)errno);
    while (!done) {
        if (poll(&ready, 1, 20000) < 1) fail("the page flip is never done", (unsigned)errno);
        drmHandleEvent(display->card, &events);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) fail("usage: on_screen CARD PICTURE.ppm", (unsigned)argc);
    struct display display;
    find(&display, argv[1]);
    int width = display.mode.hdisplay, height = display.mode.vdisplay;
    struct gbm_device *device = gbm_create_device(display.card);
    if (!device) fail("gbm_create_device", (unsigned)errno);
    EGLDisplay egl = eglGetPlatformDisplay(EGL_PLATFORM_GBM_KHR, device, NULL);
    EGLConfig config;
    EGLContext context = begin(egl, EGL_WINDOW_BIT, GBM_FORMAT_XRGB8888, &config);
    uint32_t usage = GBM_BO_USE_SCANOUT | GBM_BO_USE_RENDERING;
    struct gbm_surface *surface = gbm_surface_create(device, (uint32_t)width, (uint32_t)height, GBM_FORMAT_XRGB8888, usage);
    if (!surface) fail("gbm_surface_create", (unsigned)errno);
    EGLSurface window = eglCreatePlatformWindowSurface(egl, config, surface, NULL);
    if (!eglMakeCurrent(egl, window, window, context)) fail("eglMakeCurrent", (unsigned)eglGetError());
    printf("on_screen: renderer %s, %d by %d\n", glGetString(GL_RENDERER), width, height);
    target(width, height);
    scene();
    picture(argv[2], width, height);
    glBindFramebuffer(GL_FRAMEBUFFER, 0);
    glClearColor(1.0f, 0.0f, 0.0f, 1.0f);
    glClear(GL_COLOR_BUFFER_BIT);
    eglSwapBuffers(egl, window);
    uint32_t first = drawn(&display, surface);
    if (drmModeSetCrtc(display.card, display.crtc, first, 0, 0, &display.connector, 1, &display.mode)) fail("the mode cannot be set", (unsigned)errno);
    scene();
    eglSwapBuffers(egl, window);
    flip(&display, drawn(&display, surface));
    puts("on_screen: shown");
    fflush(stdout);
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0) {}
    return 0;
}
