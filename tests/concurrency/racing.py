"""Run callables at the same instant, in threads or processes, each with its own connection."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connection, connections

from core import faults

R = TypeVar("R")


def in_threads(actions: Sequence[Callable[[], R]]) -> list[R]:
    """Return what the actions return, all started together."""
    barrier = threading.Barrier(len(actions))

    def run(action: Callable[[], R]) -> R:
        try:
            barrier.wait()
            return action()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(actions)) as pool:
        return [future.result() for future in [pool.submit(run, each) for each in actions]]


def closing(action: Callable[[], R]) -> Callable[[], R]:
    """Return the action, for a thread of its own: its connections are closed at the end."""

    def run() -> R:
        try:
            return action()
        finally:
            connections.close_all()

    return run


def in_processes(action: Callable[[int], R], *, count: int) -> list[R]:
    """Return what each forked process returns, all started together."""
    close_all()
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(count), context.Queue()

    def run(number: int) -> None:
        barrier.wait()
        queue.put(action(number))
        connections.close_all()

    processes = [context.Process(target=run, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=100) for _ in processes]
    for process in processes:
        process.join()
    return results


def dying(point: str, action: Callable[[], object]) -> None:
    """Run the action in a process that ends at the crash point, without any clean-up."""
    close_all()
    child = os.fork()
    if child == 0:
        os.environ["ENGINE_CRASH_AT"] = point
        # Its one connection waits for no thread, which a crowded machine may not let begin in time.
        connection.settings_dict["OPTIONS"]["pool"] = None
        try:
            came_to = action()
        except BaseException as error:  # noqa: BLE001 - it must not go on with the parent's test
            came_to = error
        print(f"{point} was not reached: {came_to!r}", flush=True)  # noqa: T201
        os._exit(1)
    _, ended = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended) == faults.EXIT_CODE


def close_all() -> None:
    """Close what a forked process must not share."""
    connections.close_all()
    if hasattr(connection, "close_pool"):
        connection.close_pool()
