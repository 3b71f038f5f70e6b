"""A host, life after life, and what it does with streams."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol, cast

import trio

from knet_trio import CryptoConfig, Handle, LinkPolicy, open_handle
from knet_trio.streams import (
    HostRequest,
    HostStream,
    MessageReceiver,
    RequestReceiver,
    StreamListener,
    open_streams,
)
from tests.cancelling import leaves
from tests.cluster import KEY
from tests.streams.simulation.data import HEAD_SIZE, Head, make_bytes, read_head, write_head
from tests.streams.simulation.record import Call, Life, Record, Result, Way, fail
from tests.streams.simulation.scenario import Job, JobKind, Scenario, Style

CHANNEL: Final = 3
PORT: Final = 5405
REFUSAL: Final = "no thanks"
TROUBLE: Final = "as told"
MAY_RAISE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


class World(Protocol):
    """What a host is part of."""

    scenario: Scenario
    record: Record
    jobs: dict[int, Job]
    calm: bool

    def address(self, host: int, link: int) -> str:
        """Where a host has its end of a link."""
        ...

    def is_linked(self, a: int, b: int, link: int) -> bool:
        """Whether a host is to have that link."""
        ...

    def apply(self) -> None:
        """Have the network be as it should."""
        ...


class Node:
    """A host of the scenario."""

    def __init__(self, world: World, host: int) -> None:
        self.host = host
        self.life: Life | None = None
        self.ended = trio.Event()
        self._world = world
        self._record = world.record
        self._dice = random.Random(f"{world.scenario.seed} host {host}")
        self._scope = trio.CancelScope()
        self._leave = trio.Event()
        self._nursery: trio.Nursery | None = None

    def leave(self, *, kill: bool) -> None:
        """End its life, in good order or not."""
        if kill:
            self._scope.cancel()
        else:
            self._leave.set()

    async def live(self, task_status: trio.TaskStatus[None]) -> None:
        """One life, begun when its streams are open."""
        scenario = self._world.scenario
        crypto = CryptoConfig(KEY) if scenario.encrypted else None
        life = self._record.new_life(self.host)
        self._scope, self._leave, self.ended = trio.CancelScope(), trio.Event(), trio.Event()
        try:
            with self._scope:
                async with open_handle(self.host, crypto=crypto, pmtud_interval=10) as handle:
                    life.handle = handle
                    for peer in range(1, scenario.hosts + 1):
                        if peer != self.host:
                            handle.add_host(peer, policy=scenario.policy)
                            for link in range(scenario.links):
                                await self.add_link(handle, peer, link)
                    async with open_streams(
                        handle, channel=CHANNEL, patience=scenario.patience
                    ) as streams:
                        life.streams = streams
                        self.life = life
                        await self._serve(life, task_status)
        finally:
            self.life = None
            life.handle = life.streams = None
            life.ended = trio.current_time()
            self._record.note("end", life.number)
            self.ended.set()
            self._world.apply()

    async def _serve(self, life: Life, task_status: trio.TaskStatus[None]) -> None:
        assert life.streams is not None
        streams = life.streams
        async with (
            streams.listener() as listener,
            streams.requests() as requests,
            streams.messages() as messages,
            trio.open_nursery() as nursery,
        ):
            self._nursery = nursery
            nursery.start_soon(self._accept, nursery, listener)
            nursery.start_soon(self._take_requests, nursery, requests)
            nursery.start_soon(self._take_messages, life, messages)
            self._world.apply()
            task_status.started()
            try:
                await self._leave.wait()
            finally:
                self._nursery = None
            nursery.cancel_scope.cancel()

    async def add_link(self, handle: Handle, peer: int, link: int) -> None:
        """Add a link, if there is to be one."""
        scenario, world = self._world.scenario, self._world
        if not world.is_linked(self.host, peer, link):
            return
        await handle.hosts[peer].add_link(
            link,
            (world.address(self.host, link), PORT),
            (world.address(peer, link), PORT),
            ping_interval=scenario.pong_timeout / 5,
            pong_timeout=scenario.pong_timeout,
            pong_count=1 if scenario.policy is LinkPolicy.PASSIVE else 2,
        )

    # What it wants.

    def want(self, job: Job) -> None:
        """Begin a job, if the host runs."""
        if self._nursery is None or self.life is None:
            return
        begin = {
            JobKind.STREAM: self._want_stream,
            JobKind.REQUEST: self._want_request,
            JobKind.MESSAGES: self._want_messages,
        }[job.kind]
        self._nursery.start_soon(self._do, begin, self.life, job)

    async def _do(
        self, begin: Callable[[Life, Job], Awaitable[None]], life: Life, job: Job
    ) -> None:
        self._record.busy += 1
        try:
            await begin(life, job)
        finally:
            self._record.busy -= 1

    async def _call(self, call: Call, work: Callable[[], Awaitable[None]], hurry: float) -> None:
        """Do the work of a call, and note how it ended."""
        scope = trio.CancelScope()
        try:
            with scope:
                if hurry:
                    scope.deadline = trio.current_time() + hurry
                await work()
        except BaseException as error:
            rest = self._note_errors(call, error)
            if rest is not None:
                raise rest from None
        else:
            cancelled = scope.cancelled_caught
            self._record.end(call, Result.CANCELLED if cancelled else Result.DONE)

    def _note_errors(self, call: Call, error: BaseException) -> BaseException | None:
        """Note how a call failed; return what was none of the errors that it may raise."""
        broken: list[Exception] = [e for e in leaves(error) if isinstance(e, MAY_RAISE)]
        rest: BaseException | None = None if broken else error
        if isinstance(error, BaseExceptionGroup):
            rest = cast("BaseExceptionGroup[BaseException]", error).split(MAY_RAISE)[1]
        self._record.end(call, Result.FAILED if rest is None else Result.DIED, broken)
        return rest

    async def _want_stream(self, life: Life, job: Job) -> None:
        call = self._record.begin(job, self.host, job.b, 0, calm=self._world.calm)
        assert life.streams is not None
        connect = life.streams.connect
        out = write_head(Head(job.number, 0, life.number)) + make_bytes(job.number, job.size)

        way = self._record.ways[job.number, False]

        async def work() -> None:
            stream = await connect(job.b)
            if job.style is Style.ABORT:
                await self._give_up(stream, out, way)
                return
            async with _Given(stream, way), trio.open_nursery() as nursery:
                nursery.start_soon(self._write, stream, job, out, False)
                await self._read(stream, job, True)

        await self._call(call, work, job.hurry)

    async def _give_up(self, stream: HostStream, out: bytes, way: Way) -> None:
        """Send half of it, and no more."""
        async with _Given(stream, way):
            half = max(HEAD_SIZE, len(out) // 2)
            await self._send(stream, out[:half], half - HEAD_SIZE, way)
            await trio.sleep(self._dice.choice((0.0, 0.1, 2.0)))
            way.closed = True
            await trio.aclose_forcefully(stream)

    @staticmethod
    async def _send(stream: HostStream, data: bytes, counted: int, way: Way) -> None:
        way.sending = counted
        await stream.send_all(data)
        way.sent += counted
        way.sending = 0

    async def _write(self, stream: HostStream, job: Job, data: bytes, back: bool) -> None:
        """Send bytes, in pieces of any size, and the end."""
        piece = self._dice.choice((100, 5_000, 100_000)) if len(data) < 50_000 else 100_000
        way = self._record.ways[job.number, back]
        head = 0 if back else HEAD_SIZE
        for start in range(0, len(data), piece):
            some = data[start : start + piece]
            await self._send(stream, some, len(some) - head, way)
            head = 0
            if self._dice.random() < 0.02:
                await trio.sleep(self._dice.random())
        way.closed = True
        await stream.send_eof()

    async def _read(self, stream: HostStream, job: Job, back: bool) -> None:
        """Read bytes to the end, and look at each."""
        expected = make_bytes(job.number, job.back if back else job.size, back=back)
        while True:
            data = await stream.receive_some(self._dice.choice((None, 1000, 100_000)))
            self._record.read(job.number, back, data, expected)
            if not data:
                return
            if job.pace:
                await trio.sleep(job.pace)

    async def _want_request(self, life: Life, job: Job) -> None:
        call = self._record.begin(job, self.host, job.b, 0, calm=self._world.calm)
        assert life.streams is not None
        request = life.streams.request
        question = write_head(Head(job.number, 0, life.number)) + make_bytes(job.number, job.size)

        async def work() -> None:
            answer = await request(job.b, question)
            if answer != make_bytes(job.number, job.back, back=True):
                fail(f"a wrong answer to {call}")

        await self._call(call, work, job.hurry)

    async def _want_messages(self, life: Life, job: Job) -> None:
        assert life.streams is not None
        send, data = life.streams.send, make_bytes(job.number, job.size)
        for part in range(job.back):
            call = self._record.begin(job, self.host, job.b, part, calm=self._world.calm)
            message = write_head(Head(job.number, part, life.number)) + data

            async def work(message: bytes = message) -> None:
                await send(job.b, message)

            hurried = job.hurry and self._dice.random() < 0.3
            await self._call(call, work, job.hurry if hurried else 0.0)
            if job.pace:
                await trio.sleep(self._dice.random() * job.pace)

    # What it is asked for.

    async def _accept(self, nursery: trio.Nursery, listener: StreamListener) -> None:
        while True:
            nursery.start_soon(self._serve_stream, await listener.accept())
            if self._world.scenario.lazy:
                await trio.sleep(self._world.scenario.lazy)

    async def _serve_stream(self, stream: HostStream) -> None:
        calm = self._world.calm
        call = self._record.begin(None, self.host, stream.host_id, 0, calm=calm)

        async def work() -> None:
            head = await self._read_head(stream, call)
            if head is None:
                await stream.aclose()
                return
            self._record.accept(head)
            job = call.job = self._world.jobs[head.job]
            way = self._record.ways[job.number, True]
            async with _Given(stream, way):
                if job.style is Style.DROP:
                    await trio.sleep(self._dice.choice((0.0, 0.1, 2.0)))
                    way.closed = True
                    await trio.aclose_forcefully(stream)
                    return
                back = make_bytes(job.number, job.back, back=True)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, stream, job, back, True)
                    await self._read(stream, job, False)

        await self._call(call, work, 0)

    @staticmethod
    async def _read_head(stream: HostStream, call: Call) -> Head | None:
        """Read what names the job; None if the stream was closed before it was sent."""
        begin = b""
        try:
            while len(begin) < HEAD_SIZE:
                data = await stream.receive_some(HEAD_SIZE - len(begin))
                if not data:
                    if begin:
                        fail(f"an end in the middle of the beginning of {call}")
                    return None
                begin += data
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return read_head(begin)

    async def _take_requests(self, nursery: trio.Nursery, requests: RequestReceiver) -> None:
        async for request in requests:
            nursery.start_soon(self._serve_request, request)

    async def _serve_request(self, request: HostRequest) -> None:
        head = read_head(request.data)
        job = self._world.jobs[head.job]
        if request.data[HEAD_SIZE:] != make_bytes(job.number, job.size):
            fail(f"a wrong question of job {job.number}")
        self._record.execute(head)
        call = self._record.begin(job, self.host, request.source, 0, calm=self._world.calm)

        async def work() -> None:
            if job.style is Style.REFUSE:
                await request.refuse(REFUSAL)
            elif job.style is Style.RAISE:
                with suppress(ValueError):
                    async with request:
                        raise ValueError(TROUBLE)
            elif job.style is Style.WAIT:
                await request.wait_cancelled()
            else:
                await trio.sleep(job.pace)
                await request.answer(make_bytes(job.number, job.back, back=True))

        await self._call(call, work, 0)

    async def _take_messages(self, life: Life, messages: MessageReceiver) -> None:
        async for message in messages:
            head = read_head(message.data)
            job = self._world.jobs[head.job]
            if message.source != job.a or message.data[HEAD_SIZE:] != make_bytes(
                job.number, job.size
            ):
                fail(f"another message than {head}")
            self._record.messages[life.number].append(head)
            self._record.note("message", head)
            if self._world.scenario.lazy and not self._world.calm:
                await trio.sleep(self._dice.random() * self._world.scenario.lazy)


class _Given:
    """Closes a stream at the end of the block, by force if that ends by an error."""

    def __init__(self, stream: HostStream, way: Way) -> None:
        self._stream = stream
        self._way = way

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, kind: object, error: BaseException | None, _: object) -> None:
        self._way.closed = True
        if error is None:
            await self._stream.aclose()
        else:
            await trio.aclose_forcefully(self._stream)
