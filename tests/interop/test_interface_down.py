"""The interface of one link is taken down under a stream to the C library.

Where the C library loses everything until its timeout, even with the active policy, a refused
message goes on the other link at once.
"""

from __future__ import annotations

from typing import Final

import pytest
import trio

from knet_trio import LinkPolicy
from tests.interop.namespaces import NamespacePair
from tests.interop.pairs import finish_ours, gap, in_namespaces, open_pair, our_link, stream_of

LIMIT: Final = 60.0
SIZE: Final = 1000
# A thousand messages a second.
INTERVAL: Final = 0.001
SOME: Final = 300
PONG_TIMEOUT: Final = 0.5


@pytest.mark.parametrize("policy", list(LinkPolicy))
async def test_nothing_is_lost(namespaces: NamespacePair, policy: LinkPolicy) -> None:
    setup = in_namespaces(namespaces, 2, policy=policy, pong_timeout=PONG_TIMEOUT, hedge=True)
    with trio.fail_after(LIMIT):
        async with open_pair(setup) as pair:
            async with stream_of(pair.ours, SIZE, INTERVAL) as stream:
                await stream.flow(SOME)
                # Link 1 is the one the passive policy prefers.
                namespaces.set_link(1, up=False)
                await stream.flow(SOME)
                refused = our_link(pair, 1).tx_data_errors
                namespaces.set_link(1, up=True)
                sent = await stream.stop()
            assert refused > 0
            assert gap(await finish_ours(pair, SIZE), 0, sent) == range(0)
