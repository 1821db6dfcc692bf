#version 450
layout(location = 0) in vec2 spot;
layout(location = 1) in vec4 tint;
layout(binding = 1) uniform sampler2D pattern;
layout(location = 0) out vec4 colour;

void main() {
    // A Julia set in the texture's square, so that a pixel is some work.
    vec2 z = fract(spot) * 2.0 - 1.0;
    float steps = 0.0;
    for (int i = 0; i < 24; i++)
        if (dot(z, z) < 4.0) {
            z = vec2(z.x * z.x - z.y * z.y, 2.0 * z.x * z.y) + vec2(-0.4, 0.6);
            steps += 1.0;
        }
    colour = vec4(texture(pattern, spot).rgb * tint.rgb * (0.5 + steps / 48.0), tint.a);
}
