"""Read values by JSON path: the strict subset `$.name.other`, `$.list[0]` and `$` itself."""

import re

Step = str | int
Path = tuple[Step, ...]
STEPS_MAX = 16
LENGTH_MAX = 255
STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)|\[(0|[1-9][0-9]{0,3})\]", re.ASCII)


class PathInvalid(ValueError):
    """Report a text that is no path of the subset, and where it stops being one."""


def parse(text: str) -> Path:
    """Return the steps of a path: names of members, and indexes 0 … 9999 of lists.

    :raises PathInvalid: saying what cannot be read, and where.
    """
    if len(text) > LENGTH_MAX:
        msg = f"a path has at most {LENGTH_MAX} characters"
        raise PathInvalid(msg)
    if not text.startswith("$"):
        msg = f"{text!r} does not begin with $"
        raise PathInvalid(msg)
    steps: list[Step] = []
    position = 1
    while position < len(text):
        found = STEP.match(text, position)
        if found is None:
            msg = f"{text!r} cannot be read from character {position}: write .name or [0]"
            raise PathInvalid(msg)
        name, index = found.groups()
        steps.append(int(index) if name is None else name)
        position = found.end()
    if len(steps) > STEPS_MAX:
        msg = f"a path has at most {STEPS_MAX} steps, not {len(steps)}"
        raise PathInvalid(msg)
    return tuple(steps)


def find(path: Path, *, document: object) -> object:
    """Return the value at the path; None where there is none, as for JSON's null."""
    value = document
    for step in path:
        if isinstance(step, str) and isinstance(value, dict):
            value = value.get(step)
        elif isinstance(step, int) and isinstance(value, list) and step < len(value):
            value = value[step]
        else:
            return None
    return value
