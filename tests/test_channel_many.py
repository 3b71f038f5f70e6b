"""``Channel.send_many``: whatever the messages come from, and all that it says of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import overload

import pytest
import trio

from knet_trio import InvalidArgumentError, open_handle
from knet_trio._pipeline.batches import BATCH_BYTES
from knet_trio._pipeline.transmitter import Transmitter
from knet_trio._state.turns import counted_turns
from tests.cluster import open_pair, receive


async def test_many_messages_may_come_from_anywhere() -> None:
    async with open_pair() as pair:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
        wanted = [b"%d" % number for number in range(200)]
        await sender.send_many(data for data in wanted)
        assert await receive(receiver, 200) == wanted
        # What is bytes in another form is sent as it is now, whatever becomes of it later.
        changing = bytearray(b"before")
        await sender.send_many(
            [b"bytes", changing, memoryview(b"a view")[2:], memoryview(changing)]
        )
        changing[:] = b"after!"
        assert await receive(receiver, 4) == [b"bytes", b"before", b"view", b"before"]
        await sender.send_many({b"one": 1})
        await sender.send_many(())
        await sender.send_many([bytes(65536)] * 7)
        assert await receive(receiver, 8) == [b"one", *[bytes(65536)] * 7]


@pytest.mark.parametrize("position", [0, 1, 99])
@pytest.mark.parametrize(
    "wrong", [b"", bytes(65537), bytearray(), memoryview(b""), "text", 5, None]
)
async def test_one_of_many_that_cannot_be_has_none_of_them_sent(
    wrong: bytes, position: int
) -> None:
    async with open_pair() as pair:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
        messages: list[bytes] = [b"fine"] * 99
        messages.insert(position, wrong)
        with pytest.raises(InvalidArgumentError, match=r"a message (is bytes|has 1 to 65536)"):
            await sender.send_many(messages)
        await sender.send(b"next")
        assert await receive(receiver, 1) == [b"next"]


class Twice(Sequence[bytes]):
    """A sequence that cannot be sliced, of the same message twice."""

    def __init__(self, message: bytes) -> None:
        self._message = message

    def __len__(self) -> int:
        return 2

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        assert isinstance(index, int), "it cannot be sliced"
        if index not in range(2):
            raise IndexError
        return self._message


async def test_sequences_of_any_kind_are_sent() -> None:
    async with open_pair() as pair:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
        await sender.send_many(deque([b"1", bytearray(b"2")]))
        await sender.send_many(Twice(b"3"))
        await sender.send_many(deque())
        await sender.send_many((b"4", memoryview(b"5")))
        assert await receive(receiver, 6) == [b"1", b"2", b"3", b"3", b"4", b"5"]


@pytest.mark.parametrize(
    "wrong",
    [deque([b"fine"] * 1500 + [b""]), Twice(bytes(65537)), range(3)],
    ids=["deque", "own", "range"],
)
async def test_of_sequences_of_any_kind_all_are_sent_or_none(wrong: Sequence[bytes]) -> None:
    async with open_pair() as pair:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
        with pytest.raises(InvalidArgumentError, match=r"a message (is bytes|has 1 to 65536)"):
            await sender.send_many(wrong)
        await sender.send(b"next")
        assert await receive(receiver, 1) == [b"next"]


async def test_others_run_while_many_messages_are_checked() -> None:
    with counted_turns():
        async with open_handle(1) as handle:
            channel = handle.open_channel()
            rounds = 0

            async def watch() -> None:
                nonlocal rounds
                while True:
                    await trio.lowlevel.checkpoint()
                    rounds += 1

            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                with pytest.raises(InvalidArgumentError):
                    # Each 32nd look at the clock of this test ends a turn.
                    await channel.send_many(deque([b"fine"] * 50_000 + [b""]))
                nursery.cancel_scope.cancel()
            assert rounds > 5


async def test_what_can_change_is_copied_once_and_not_long_before_it_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copied = handed_over = 0
    ahead: list[int] = []

    class Counted(bytearray):
        def __bytes__(self) -> bytes:
            nonlocal copied
            copied += len(self)
            return bytes(memoryview(self))

    async def send(_: Transmitter, datas: Sequence[bytes], *__: object) -> None:
        nonlocal handed_over
        ahead.append(copied - handed_over)
        handed_over += sum(map(len, datas))
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(Transmitter, "send", send)
    async with open_handle(1) as handle:
        channel = handle.open_channel()
        several = [Counted(50_000) for _ in range(300)]
        for messages in (several, tuple(several), deque(several), iter(several)):
            copied = handed_over = 0
            await channel.send_many(messages)
            assert copied == handed_over == 300 * 50_000
    # What is in a batch, and the first message that is too much for it.
    assert max(ahead) <= BATCH_BYTES + 50_000


async def test_what_the_messages_come_from_may_fail() -> None:
    def messages() -> Iterator[bytes]:
        yield b"fine"
        raise ZeroDivisionError

    async with open_pair() as pair:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
        with pytest.raises(ZeroDivisionError):
            await sender.send_many(messages())
        await sender.send(b"next")
        assert await receive(receiver, 1) == [b"next"]
