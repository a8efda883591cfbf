"""Give a process a wrong clock: by CLOCK_SHIFT_HOURS, jumping to and fro under CLOCK_JUMPS.

Python imports this by itself where the folder is on PYTHONPATH.
"""

import os
import threading
import time
from datetime import UTC, datetime, timedelta

import time_machine

JUMP_SECONDS = 0.2
SHIFT = timedelta(hours=float(os.environ.get("CLOCK_SHIFT_HOURS", "0")))
TRAVELLER = time_machine.travel(datetime.now(UTC) + SHIFT, tick=True).start()


def _jump() -> None:
    by = -2 * SHIFT
    while True:
        time.sleep(JUMP_SECONDS)
        TRAVELLER.shift(by)
        by = -by


def _start_jumping() -> None:
    threading.Thread(target=_jump, daemon=True).start()


if os.environ.get("CLOCK_JUMPS"):
    _start_jumping()
    os.register_at_fork(after_in_child=_start_jumping)
