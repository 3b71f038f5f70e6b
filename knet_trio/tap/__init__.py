"""An Ethernet between hosts: a tap device on each, and frames over a channel of their handles.

``open_tap`` creates the device, ``carry_frames`` joins it to the devices of the other hosts, and
``open_cluster_tap`` does both for a handle that runs a cluster file. Linux only.
"""

from __future__ import annotations

from knet_trio.tap.addresses import AddressTable
from knet_trio.tap.carrying import carry_frames
from knet_trio.tap.cluster_tap import open_cluster_tap
from knet_trio.tap.device import InterfaceLike, Tap, TapStatistics, make_mac, open_tap
from knet_trio.tap.errors import TapError
from knet_trio.tap.learning_filter import LearningFilter

__all__ = [
    "AddressTable",
    "InterfaceLike",
    "LearningFilter",
    "Tap",
    "TapError",
    "TapStatistics",
    "carry_frames",
    "make_mac",
    "open_cluster_tap",
    "open_tap",
]
