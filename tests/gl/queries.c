// Occlusion queries, each awaited at once and then all together: a program that waits for one waits for the host's OpenGL to say
// so, which takes its own turn there. Every second or third triangle lies outside of what is drawn.
#include "scene.h"
#include <GLES3/gl3.h>
#include <stdio.h>

enum { QUERIES = 30 };

static GLuint part(GLenum kind, const char *source) {
    GLuint shader = glCreateShader(kind);
    GLint compiled = 0;
    glShaderSource(shader, 1, &source, NULL);
    glCompileShader(shader);
    glGetShaderiv(shader, GL_COMPILE_STATUS, &compiled);
    if (!compiled) fail("a shader", kind);
    return shader;
}

static int is_visible(int query) {
    return query % 5 % 2 == 0;
}

static void ask(GLuint query, int number, GLint offset) {
    glUniform1f(offset, is_visible(number) ? 0.0f : 8.0f);
    glBeginQuery(GL_ANY_SAMPLES_PASSED, query);
    glDrawArrays(GL_TRIANGLES, 0, 3);
    glEndQuery(GL_ANY_SAMPLES_PASSED);
}

static int is_right(GLuint query, int number) {
    GLuint passed = 7;
    glGetQueryObjectuiv(query, GL_QUERY_RESULT, &passed);
    if (passed != (GLuint)is_visible(number)) fprintf(stderr, "queries: %d says %u\n", number, passed);
    return passed == (GLuint)is_visible(number);
}

int main(void) {
    EGLDisplay display = eglGetPlatformDisplay(EGL_PLATFORM_SURFACELESS_MESA, EGL_DEFAULT_DISPLAY, NULL);
    EGLConfig config;
    EGLContext context = begin(display, EGL_PBUFFER_BIT, 0, &config);
    if (!eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, context)) fail("eglMakeCurrent", (unsigned)eglGetError());
    target(64, 64);
    GLuint program = glCreateProgram(), queries[QUERIES];
    glAttachShader(program, part(GL_VERTEX_SHADER, "attribute vec2 at; uniform float offset;\n"
                                                   "void main() { gl_Position = vec4(at.x + offset, at.y, 0.0, 1.0); }"));
    glAttachShader(program, part(GL_FRAGMENT_SHADER, "void main() { gl_FragColor = vec4(1.0); }"));
    glBindAttribLocation(program, 0, "at");
    glLinkProgram(program);
    glUseProgram(program);
    static const GLfloat corners[] = {-0.5f, -0.5f, 0.5f, -0.5f, 0.0f, 0.5f};
    glVertexAttribPointer(0, 2, GL_FLOAT, GL_FALSE, 0, corners);
    glEnableVertexAttribArray(0);
    glDisable(GL_CULL_FACE);
    glDisable(GL_DEPTH_TEST);
    GLint offset = glGetUniformLocation(program, "offset");
    glGenQueries(QUERIES, queries);
    int right = 0;
    for (int number = 0; number < QUERIES; number++) {
        ask(queries[number], number, offset);
        right += is_right(queries[number], number);
    }
    for (int number = 0; number < QUERIES; number++) ask(queries[number], number, offset);
    for (int number = 0; number < QUERIES; number++) right += is_right(queries[number], number);
    GLenum error = glGetError();
    if (error) fail("glGetError", error);
    printf("queries: %d of %d are right\n", right, 2 * QUERIES);
    return right != 2 * QUERIES;
}
