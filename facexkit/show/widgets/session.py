"""One thread in which all widgets' models work: what is measured waits, what is shown at once goes ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from threading import Lock, Thread, current_thread

from facexkit.errors import FacexkitError


class Cancelled(FacexkitError):
    """Ends work that nobody waits for any more."""


class Session:
    """The thread lives as long as there is work: a model is seen by one batch at a time, and Python can leave."""

    def __init__(self) -> None:
        self.lock, self.thread = Lock(), None
        self.ahead: deque[tuple[Future, Callable]] = deque()
        self.turns: deque[tuple[Future, Callable]] = deque()

    def put(self, job: Future, do: Callable[[], object], ahead: bool = False) -> None:
        """Have something done, the result of which is the job's; `ahead` of what waits, between two batches of what runs."""
        with self.lock:
            (self.ahead if ahead else self.turns).append((job, do))
            if self.thread is None:
                self.thread = Thread(target=self._work)
                self.thread.start()

    def now(self, do: Callable, *given: object) -> object:
        """Return what is done ahead of everything else, or raise what it raises."""
        if current_thread() is self.thread:
            return do(*given)
        self.put(job := Future(), partial(do, *given), ahead=True)
        return job.result()

    def give_way(self) -> None:
        """Let go ahead what is to be shown at once; who measures calls it between two batches."""
        while self.ahead and current_thread() is self.thread:
            finish(*self.ahead.popleft())

    def _work(self) -> None:
        while True:
            with self.lock:
                waiting = self.ahead or self.turns
                if not waiting:
                    self.thread = None
                    return
                job, do = waiting.popleft()
            finish(job, do)


def finish(job: Future, do: Callable[[], object]) -> None:
    """Do something, and give the job its result, or what it raised."""
    try:
        job.set_result(do())
    except BaseException as error:
        job.set_exception(error)
