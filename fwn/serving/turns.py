"""The queue of the server: requests of one kind are computed together, and all kinds take turns in one thread.

JAX runs in that thread, so the event loop stays free for connections. Work is done in the order in which it came. A
long request puts in one window of audio at a time, so short ones need not wait for its end.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

Compute = Callable[[list[Any]], Sequence[Any]]
Observe = Callable[[Hashable, int, float], None]


class Work(NamedTuple):
    """One item in a group.

    compute: items -> results, for all of the group together. due: when it is computed even if the batch is not full.
    """

    item: Any
    compute: Compute
    arrived: float
    due: float
    result: "asyncio.Future[Any]"


class Turns:
    """Results of work: of an item that is computed in a batch (`batch`), of a function (`alone`).

    sizes: of batches, the first of them 1: few, since each is compiled. As many items as possible are computed together
    in a batch of which at most a quarter is padding. max_wait: seconds for which an item waits for others of its kind;
    it does not wait if the largest batch is full. observe: called with (kind, items, seconds) of each turn, in the
    thread.
    """

    def __init__(self, sizes: Sequence[int], max_wait: float, observe: Observe):
        self._sizes, self._max_wait, self._observe = sorted(sizes), max_wait, observe
        self._groups: dict[Hashable, deque[Work]] = {}
        self._arrived = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, "jax")
        self._loop: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Number of items that wait."""
        return sum(map(len, list(self._groups.values())))

    async def start(self) -> None:
        """Begins to take turns."""
        self._loop = asyncio.create_task(self._take_turns())

    async def stop(self) -> None:
        """No more turns; what waits gets no result."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def batch(self, kind: Hashable, compute: Compute, item: Any) -> Any:
        """The result of an item, computed together with others of its kind. If it is cancelled, it is not computed."""
        return await self._queued(kind, compute, item, self._max_wait)

    async def alone(self, name: str, function: Callable[[], Any]) -> Any:
        """The result of a function. name: for `observe`."""
        return await self._queued((name, object()), lambda items: [items[0]()], function, 0.0)

    async def _queued(self, kind: Hashable, compute: Compute, item: Any, wait: float) -> Any:
        result, now = asyncio.get_running_loop().create_future(), time.monotonic()
        self._groups.setdefault(kind, deque()).append(Work(item, compute, now, now + wait, result))
        self._arrived.set()
        return await result

    async def _take_turns(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._arrived.clear()
            kind, wait = self._next(time.monotonic())
            if kind is None:
                await _either(self._arrived.wait(), wait)
                continue
            group = self._groups[kind]
            filled = {size: min(size, len(group)) for size in self._sizes}
            items = max(n for size, n in filled.items() if 4 * n >= 3 * size)
            turn = [group.popleft() for _ in range(items)]
            await loop.run_in_executor(self._worker, self._compute, loop, kind, turn)

    def _next(self, now: float) -> tuple[Hashable | None, float | None]:
        """(the kind whose turn it is, or None; the seconds until that may change, or None for any number)."""
        ready: list[tuple[float, int, Hashable]] = []
        wait: list[float] = []
        for kind, group in list(self._groups.items()):
            waiting = deque(work for work in group if not work.result.done())  # the others were cancelled
            if not waiting:
                del self._groups[kind]
                continue
            self._groups[kind] = waiting
            if len(waiting) >= self._sizes[-1] or waiting[0].due <= now:
                ready.append((waiting[0].arrived, len(ready), kind))
            else:
                wait.append(waiting[0].due - now)
        return (min(ready)[2], None) if ready else (None, min(wait, default=None))

    def _compute(self, loop: asyncio.AbstractEventLoop, kind: Hashable, turn: list[Work]) -> None:
        """In the thread: computes the items and hands the results over."""
        start = time.perf_counter()
        try:
            results = list(turn[0].compute([work.item for work in turn]))
        except Exception as error:  # each request answers with it; the server goes on
            loop.call_soon_threadsafe(_settle, turn, None, error)
        else:
            loop.call_soon_threadsafe(_settle, turn, results, None)
        self._observe(kind, len(turn), time.perf_counter() - start)


def _settle(turn: list[Work], results: list[Any] | None, error: Exception | None) -> None:
    for i, work in enumerate(turn):
        if work.result.done():  # cancelled meanwhile
            continue
        if results is None:
            assert error is not None
            work.result.set_exception(error)
        else:
            work.result.set_result(results[i])


async def _either(event: Any, seconds: float | None) -> None:
    """Waits for the event, or so many seconds."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event, seconds)
