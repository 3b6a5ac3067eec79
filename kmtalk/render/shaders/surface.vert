#version 330 core
// Names in capitals after #ifdef are defined by the program.
layout(location = 0) in vec3 vertex_position;
layout(location = 1) in vec3 vertex_normal;
layout(location = 2) in vec2 vertex_uv;
layout(location = 3) in vec4 vertex_color;

uniform mat4 view_projection;
uniform mat4 shadow_matrix;  // world to shadow map, 0 to 1
uniform float shadow_bias;   // in the mesh's units

out vec2 uv;
out vec4 color;  // linear RGB and ambient occlusion (1: open)
#ifdef PER_VERTEX
uniform float roughness;
uniform sampler2D roughness_texture;
out vec3 diffuse;
out vec3 specular;
#include "light.glsl"
#else
uniform vec3 light_directions[3];
out vec3 position;  // world
out vec3 normal;
out vec3 shadow_position;
#endif

void main() {
    uv = vertex_uv;
    color = vertex_color;
    gl_Position = view_projection * vec4(vertex_position, 1.0);
#ifdef ALPHA_MASK
    vec3 lift = 4.0 * light_directions[0];  // hair lets light through, and cards have two sides
#else
    vec3 lift = vertex_normal;
#endif
    vec3 in_shadow_map = (shadow_matrix * vec4(vertex_position + lift * shadow_bias, 1.0)).xyz;
#ifdef PER_VERTEX
    vec3 n = vertex_normal;
#ifdef ALPHA_MASK
    n = dot(n, camera_position - vertex_position) < 0.0 ? -n : n;  // cards are seen from both sides
#endif
    float rough = roughness, occlusion = vertex_color.a;
#ifdef ROUGHNESS_TEXTURE
    vec2 ao_rough = textureLod(roughness_texture, uv, 2.0).rg;
#ifdef OCCLUSION
    occlusion *= mix(1.0, ao_rough.r, 0.6);
#endif
    rough *= ao_rough.g;
#endif
    Light light = light_surface(vertex_position, n, in_shadow_map, occlusion, rough);
    diffuse = light.diffuse;
    specular = light.specular;
#else
    position = vertex_position;
    normal = vertex_normal;
    shadow_position = in_shadow_map;
#endif
}
