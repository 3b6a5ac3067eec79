// Light of the scene, in linear colours: a key, a fill and a rim light, and light from all around.
uniform vec3 camera_position;
uniform vec3 light_directions[3];  // towards the key, fill and rim light
uniform vec3 light_colors[3];
uniform vec3 up;                   // of the camera
uniform vec3 sky_color;
uniform vec3 ground_color;
uniform sampler2DShadow shadow_map;
uniform float shadow_radius;       // of the soft edge, in the shadow map's coordinates
uniform float subsurface;          // 0 to 1: how far light spreads below the surface, as in skin

const float LIGHT_SIZE = 0.09;  // of the lamps, as added roughness: a highlight shows their size

struct Light {
    vec3 diffuse;   // to be multiplied with the base colour
    vec3 specular;
};

float key_visibility(vec3 shadow_position) {
    float r = shadow_radius;
    float sum = texture(shadow_map, shadow_position + vec3(0.92 * r, 0.38 * r, 0.0))
              + texture(shadow_map, shadow_position + vec3(-0.38 * r, 0.92 * r, 0.0))
              + texture(shadow_map, shadow_position + vec3(-0.92 * r, -0.38 * r, 0.0))
              + texture(shadow_map, shadow_position + vec3(0.38 * r, -0.92 * r, 0.0));
    if (sum > 0.01 && sum < 3.99) {  // in the soft edge: more samples, on a smaller circle
        float s = 0.55 * r;
        sum += texture(shadow_map, shadow_position + vec3(s, 0.0, 0.0))
             + texture(shadow_map, shadow_position + vec3(0.0, s, 0.0))
             + texture(shadow_map, shadow_position + vec3(-s, 0.0, 0.0))
             + texture(shadow_map, shadow_position + vec3(0.0, -s, 0.0));
        return sum * 0.125;
    }
    return sum * 0.25;
}

// GGX highlight of one light, with Schlick's Fresnel term for dielectrics; the lights' colours include the 1/pi
float highlight(vec3 n, vec3 v, vec3 l, float n_dot_v, float alpha) {
    vec3 h = normalize(l + v);
    float n_dot_l = clamp(dot(n, l), 0.0, 1.0), n_dot_h = clamp(dot(n, h), 0.0, 1.0);
    float a2 = alpha * alpha, d = n_dot_h * n_dot_h * (a2 - 1.0) + 1.0, k = 0.5 * alpha;
    float visibility = 0.25 / ((n_dot_l * (1.0 - k) + k) * (n_dot_v * (1.0 - k) + k));
    float f = 1.0 - clamp(dot(v, h), 0.0, 1.0), f2 = f * f;
    return (0.04 + 0.96 * f2 * f2 * f) * a2 / (d * d) * visibility * n_dot_l;
}

Light light_surface(vec3 position, vec3 n, vec3 shadow_position, float occlusion, float rough) {
    vec3 v = normalize(camera_position - position);
    float n_dot_v = max(dot(n, v), 0.02);
    float visible = key_visibility(shadow_position);
    // light that spreads below the surface reaches beyond the terminator, red furthest
    vec3 wrap = subsurface * vec3(0.42, 0.20, 0.14) + 0.02;
    vec3 scale = 1.0 / ((1.0 + wrap) * (1.0 + wrap));
    vec3 key = clamp((dot(n, light_directions[0]) + wrap) * scale, 0.0, 1.0) * light_colors[0];
    vec3 fill = clamp((dot(n, light_directions[1]) + wrap) * scale, 0.0, 1.0) * light_colors[1];
    vec3 rim = clamp((dot(n, light_directions[2]) + wrap) * scale, 0.0, 1.0) * light_colors[2];
    vec3 key_shadow = mix(vec3(visible), vec3(sqrt(visible), visible, visible), 0.4 * subsurface);
    float open = smoothstep(0.0, 0.55, occlusion);  // how far the fill and rim light reach in
    vec3 ambient = mix(ground_color, sky_color, dot(n, up) * 0.5 + 0.5);
    vec3 bounce = occlusion / (1.0 - vec3(0.42, 0.30, 0.26) * (1.0 - occlusion));  // between nearby surfaces
    Light light;
    light.diffuse = key * key_shadow * mix(1.0, open, 0.6) + fill * open + rim * (open * open) + ambient * bounce;

    float alpha = rough * rough + LIGHT_SIZE * (1.0 - rough * 0.8);
    float lamp = max(visible, 0.6 * open);  // a lid's shadow never hides the whole lamp from the eye
    light.specular = light_colors[0] * (lamp * highlight(n, v, light_directions[0], n_dot_v, alpha))
                   + light_colors[1] * (open * highlight(n, v, light_directions[1], n_dot_v, alpha));
    float grazing = 1.0 - n_dot_v, g2 = grazing * grazing;
    float fresnel = 0.04 + (1.0 - rough) * 0.5 * g2 * g2 * grazing;
    vec3 mirrored = mix(ground_color, sky_color, smoothstep(-0.5, 0.6, dot(reflect(-v, n), up)));
    light.specular += mirrored * fresnel * occlusion;
    return light;
}
