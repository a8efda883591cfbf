"""Run callables at the same instant, in threads or processes, each with its own connection."""

import multiprocessing
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connection, connections

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
    connections.close_all()
    if hasattr(connection, "close_pool"):
        connection.close_pool()
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
