#version 330 core
in vec2 uv;

uniform sampler2D base_color_texture;

void main() {
#ifdef ALPHA_MASK
    if (texture(base_color_texture, uv).a < 0.5) discard;
#endif
}
