#version 330 core
in vec2 uv;

uniform sampler2D base_color_texture;
uniform float alpha_cutoff;

void main() {
#ifdef ALPHA_MASK
    if (texture(base_color_texture, uv).a < alpha_cutoff) discard;
#endif
}
