#version 450
layout(location = 0) in vec3 place;
layout(location = 1) in vec3 normal;
layout(location = 2) in vec2 at;
layout(location = 3) in vec3 stands;
layout(location = 4) in vec3 size;
layout(location = 5) in vec4 colour;
layout(binding = 0) uniform Camera { mat4 view; vec4 light; };
layout(location = 0) out vec2 spot;
layout(location = 1) out vec4 tint;

void main() {
    gl_Position = view * vec4(place * size + stands, 1.0);
    spot = at;
    tint = vec4(colour.rgb * (0.45 + 0.75 * max(dot(normal, light.xyz), 0.0)), colour.a);
}
