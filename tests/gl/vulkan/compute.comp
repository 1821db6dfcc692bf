#version 450
// Every word is scrambled, then joined with those before it in its group, which takes shared memory and a barrier. Integers alone, so
// that every device has the same.
layout(local_size_x = 64) in;
layout(binding = 0) readonly buffer Given { uint given[]; };
layout(binding = 1) writeonly buffer Made { uint made[]; };
layout(push_constant) uniform Size { uint words; uint rounds; };
shared uint scrambled[64];

void main() {
    uint at = gl_GlobalInvocationID.x, here = gl_LocalInvocationID.x;
    uint word = at < words ? given[at] : 0u;
    for (uint round = 0u; round < rounds; round++) {
        word ^= word << 13;
        word ^= word >> 17;
        word ^= word << 5;
        word = word * 2654435761u + round;
    }
    scrambled[here] = word;
    barrier();
    uint joined = at;
    for (uint i = 0u; i <= here; i++) joined = joined * 31u + scrambled[i];
    if (at < words) made[at] = joined;
}
