#version 330 core
out vec2 place;  // -1 to 1

void main() {  // one triangle that covers the picture, at the far end
    place = vec2(gl_VertexID % 2, gl_VertexID / 2) * 4.0 - 1.0;
    gl_Position = vec4(place, 1.0, 1.0);
}
