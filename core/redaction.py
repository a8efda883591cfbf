"""Keep secrets out of the log and the audit log, by the names under which they travel."""

import re
from collections.abc import Mapping

REDACTED = "[redacted]"
SECRET_NAMES = re.compile(
    r"password|secret|token(?!_version)|authorization|cookie|credential|signature|api_?key",
    re.IGNORECASE,
)
SECRET_TEXTS = re.compile(
    r"(?P<scheme>Bearer|Api-Key)\s+\S+|\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)",
    re.IGNORECASE,
)
DEPTH_MAX = 8


def redacted(value: object, *, depth: int = 0) -> object:
    """Return the value with everything under a secret's name, and secrets in texts, blotted out."""
    if depth >= DEPTH_MAX:
        return REDACTED
    if isinstance(value, Mapping):
        return {
            name: REDACTED
            if each not in (None, "") and SECRET_NAMES.search(str(name))
            else redacted(each, depth=depth + 1)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted(each, depth=depth + 1) for each in value]
    if isinstance(value, str):
        return SECRET_TEXTS.sub(_blotted, value)
    return value


def _blotted(found: re.Match[str]) -> str:
    scheme = found.group("scheme")
    return f"{scheme} {REDACTED}" if scheme else REDACTED
