#version 330 core
// A wall lit from above the head: a soft spot that falls off to the corners.
in vec2 place;

uniform vec3 inner_color;  // sRGB
uniform vec3 outer_color;
uniform float aspect;

out vec4 fragment;

void main() {
    vec2 from_spot = (place - vec2(0.0, 0.15)) * vec2(0.5 + 0.5 * aspect, 1.0);
    float amount = smoothstep(0.05, 1.0, length(from_spot) / 1.75);
    // noise of one step of 255 hides the bands of the gradient
    float noise = fract(52.9829189 * fract(dot(gl_FragCoord.xy, vec2(0.06711056, 0.00583715)))) - 0.5;
    fragment = vec4(mix(inner_color, outer_color, amount) + noise / 255.0, 1.0);
}
