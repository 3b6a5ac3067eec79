#version 330 core
// Names in capitals after #ifdef are defined by the program.
in vec2 uv;
in vec4 color;  // linear RGB and ambient occlusion (1: open)

uniform vec4 base_color;   // linear
uniform float back_light;  // factor on the light on back faces
uniform sampler2D base_color_texture;
uniform float alpha_cutoff;

out vec4 fragment;

#ifdef PER_VERTEX
in vec3 diffuse;
in vec3 specular;
#else
in vec3 position;
in vec3 normal;
in vec3 shadow_position;
uniform float roughness;
uniform sampler2D normal_texture;
uniform sampler2D roughness_texture;
#include "light.glsl"

vec3 shading_normal(vec3 n) {
#ifdef NORMAL_TEXTURE
    // tangent frame from screen-space derivatives: meshes have no tangents
    vec3 dx = dFdx(position), dy = dFdy(position);
    vec2 du = dFdx(uv), dv = dFdy(uv);
    vec3 px = cross(dy, n), py = cross(n, dx);
    vec3 tangent = px * du.x + py * dv.x, bitangent = px * du.y + py * dv.y;
    float scale = inversesqrt(max(max(dot(tangent, tangent), dot(bitangent, bitangent)), 1e-20));
    vec3 texel = texture(normal_texture, uv).xyz * 2.0 - 1.0;
    n = normalize(tangent * (texel.x * scale) + bitangent * (texel.y * scale) + n * texel.z);
#endif
    return n;
}
#endif

vec3 to_linear(vec3 srgb) {  // polynomial of degree 3; the error is below 0.2 %
    return srgb * (srgb * (srgb * 0.305306011 + 0.682171111) + 0.012522878);
}

vec3 to_srgb(vec3 linear) {  // a fit by square roots; the error is below 0.3 %
    vec3 s1 = sqrt(linear), s2 = sqrt(s1), s3 = sqrt(s2);
    return clamp(0.662002687 * s1 + 0.684122060 * s2 - 0.323583601 * s3 - 0.0225411470 * linear, 0.0, 1.0);
}

// Khronos PBR neutral tone mapper: keeps colours up to 0.76 as they are and compresses highlights
vec3 tone_map(vec3 light) {
    const float start = 0.76;
    float peak = max(light.r, max(light.g, light.b));
    float compressed = 1.0 - (1.0 - start) * (1.0 - start) / (max(peak, start) + 1.0 - 2.0 * start);
    float white = 1.0 - 1.0 / (0.15 * max(peak - compressed, 0.0) + 1.0);
    return peak < start ? light : mix(light * (compressed / peak), vec3(compressed), white);
}

void main() {
    vec4 base = base_color * vec4(color.rgb, 1.0);
#ifdef BASE_COLOR_TEXTURE
    vec4 texel = texture(base_color_texture, uv);
    base *= vec4(to_linear(texel.rgb), texel.a);
#endif
    float alpha = 1.0;
#ifdef ALPHA_MASK
    // edges are soft over a pixel, which would be jagged if cut; what is above the cutoff is opaque, as in glTF
    alpha = clamp((base.a - alpha_cutoff + 1e-4) / max(fwidth(base.a), 1e-4) + 0.5, 0.0, 1.0);
    if (alpha < 0.05) discard;
#endif
#ifdef ALPHA_BLEND
    alpha = base.a;
#endif
    float side = gl_FrontFacing ? 1.0 : back_light;
#ifdef PER_VERTEX
    vec3 light = (base.rgb * diffuse + specular) * side;
#else
    float occlusion = color.a * side, rough = roughness;
#ifdef ROUGHNESS_TEXTURE
    vec2 ao_rough = texture(roughness_texture, uv).rg;
#ifdef OCCLUSION
    occlusion *= mix(1.0, ao_rough.r, 0.6);
#endif
    rough *= ao_rough.g;
#endif
    vec3 n = normalize(normal) * (gl_FrontFacing ? 1.0 : -1.0);
    Light lit = light_surface(position, shading_normal(n), shadow_position, occlusion, rough);
    vec3 light = base.rgb * lit.diffuse + lit.specular;
#endif
    fragment = vec4(to_srgb(tone_map(light)), alpha);
}
