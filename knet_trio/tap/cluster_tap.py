"""The tap that a cluster file describes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from functools import partial

import trio

from knet_trio import Handle, InvalidArgumentError, KnetError
from knet_trio._opening import opens
from knet_trio.cluster import ClusterTap, get_cluster
from knet_trio.tap.carrying import carry_frames
from knet_trio.tap.device import Tap, open_tap


def open_cluster_tap(
    handle: Handle, wanted: ClusterTap | None = None
) -> AbstractAsyncContextManager[Tap]:
    """Open the tap of a cluster file on this host, and carry its frames during the block.

    ::

        async with open_cluster("lab.toml") as handle, open_cluster_tap(handle):
            ...

    The block owns a nursery, so errors leave it in exception groups, except for those of opening
    the device and the channel.

    Args:
        handle: A handle that ``open_cluster`` opened.
        wanted: The tap of another version of the cluster file; None for the version in use.

    Yields:
        The device.

    Raises:
        InvalidArgumentError: ``open_cluster`` did not open the handle, or the file has no ``[tap]``
            or one with an invalid address.
        BusyError: A network device has that name already, or the channel is open.
        TapError: The system refuses the device.
    """
    cluster = get_cluster(handle)
    tap = wanted or cluster.tap
    if tap is None:
        file = "" if cluster.path is None else f" {cluster.path}"
        raise InvalidArgumentError(f"the cluster file{file} has no [tap]: add one")
    opening = open_tap(
        tap.name, address=tap.get_address(handle.host_id), mac=tap.get_mac(handle.host_id)
    )
    return _carrying(opening, handle, tap.channel)


@opens("open_cluster_tap(handle) as tap")
async def _carrying(
    opening: AbstractAsyncContextManager[Tap], handle: Handle, channel: int
) -> AsyncGenerator[Tap, None]:
    failed: KnetError | None = None
    async with opening as tap:
        async with trio.open_nursery() as nursery:
            try:
                await nursery.start(partial(carry_frames, tap, handle, channel))
            except KnetError as error:
                # Raised after the nursery has ended, it is not in an exception group.
                failed = error
            else:
                yield tap
                nursery.cancel_scope.cancel()
        if failed is not None:
            raise failed
