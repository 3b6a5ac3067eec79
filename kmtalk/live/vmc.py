"""VMC protocol: OSC over UDP, which VSeeFace, Warudo, VNyan and other programs with VRM avatars receive on port 39539.

A pose is one bundle: the state of the sender, its time, rotations of neck, head and eyes, and the weights of
expressions: VRM's presets of vowels and blinks, and ARKit's shapes by the names of "Perfect Sync".
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from kmtalk.errors import InputError
from kmtalk.exchange.arkit import LIVE_LINK_ORDER
from kmtalk.exchange.vrm_animation import MouthExpressionFitter
from kmtalk.face.joints import NECK_SHARE
from kmtalk.face.rig import Rig
from kmtalk.live.frames import LiveFrame

PORT = 39539
PRESETS = {"aa": "A", "ih": "I", "ou": "U", "ee": "E", "oh": "O"}
"""VRM 1's names of mouth expressions, and those of VRM 0, which the protocol uses."""

_AVAILABLE, _CALIBRATED, _NORMAL_MODE, _TRACKING = 1, 3, 0, 1
_BLINKS = {"Blink_L": LIVE_LINK_ORDER.index("eyeBlinkLeft"), "Blink_R": LIVE_LINK_ORDER.index("eyeBlinkRight")}


class VmcEncoder:
    """Encodes poses as OSC bundles.

    Args:
        rig: The rig, on whose mesh VRM's mouth expressions are fitted to ARKit's shapes.

    Raises:
        InputError: python-osc is not installed.
    """

    def __init__(self, rig: Rig) -> None:
        try:
            from pythonosc import osc_bundle_builder, osc_message_builder
        except ImportError:
            raise InputError("VMC needs python-osc; pip install 'kmtalk[live]'") from None
        self._bundles, self._messages = osc_bundle_builder, osc_message_builder
        self._mouth = MouthExpressionFitter(rig)

    def encode(self, frame: LiveFrame, time: float) -> bytes:
        """Return the bundle of a pose at `time` seconds since the start."""
        bundle = self._bundles.OscBundleBuilder(self._bundles.IMMEDIATELY)

        def add(address: str, *values: str | float) -> None:
            message = self._messages.OscMessageBuilder(f"/VMC/Ext/{address}")
            for value in values:
                message.add_arg(value)
            bundle.add_content(message.build())

        add("OK", _AVAILABLE, _CALIBRATED, _NORMAL_MODE, _TRACKING)
        add("T", float(time))
        for bone, rotation in bone_rotations(frame.rotations).items():
            add("Bone/Pos", bone, 0.0, 0.0, 0.0, *rotation.tolist())
        for name, weight in self.expressions(frame.weights).items():
            add("Blend/Val", name, weight)
        add("Blend/Apply")
        return bytes(bundle.build().dgram)

    def expressions(self, weights: np.ndarray) -> dict[str, float]:
        """Return the weights of all expressions, for the weights (52,) of ARKit's shapes."""
        presets = {PRESETS[n]: float(w[0]) for n, w in self._mouth.fit(weights[None]).items()}
        blinks = {name: float(weights[i]) for name, i in _BLINKS.items()}
        perfect_sync = {n[0].upper() + n[1:]: float(w) for n, w in zip(LIVE_LINK_ORDER, weights, strict=True)}
        return presets | blinks | perfect_sync


def bone_rotations(rotations: np.ndarray) -> dict[str, np.ndarray]:
    """Convert rotations (9,) of head and eyes to quaternions (x, y, z, w) of bones in Unity's left-handed axes.

    There x is the face's own right, y is up and z is where the face looks.
    """
    head = _in_unity(rotations[:3])
    bones = {"Neck": NECK_SHARE * head, "Head": (1 - NECK_SHARE) * head}
    bones |= {"LeftEye": _in_unity(rotations[3:6]), "RightEye": _in_unity(rotations[6:9])}
    return {bone: Rotation.from_rotvec(vector).as_quat() for bone, vector in bones.items()}


def _in_unity(angles: np.ndarray) -> np.ndarray:
    """Convert yaw and roll to the face's own left, and pitch up, to a rotation vector in Unity's axes."""
    yaw, pitch, roll = angles
    vector: np.ndarray = Rotation.from_euler("YXZ", [-yaw, -pitch, roll]).as_rotvec()
    return vector
