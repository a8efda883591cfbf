"""Name who acts, why, and under which request."""

from dataclasses import dataclass

OPERATORS = ("staff ", "service key ", "shell ")


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who acts, why, and under which request, as timeline and audit log keep it."""

    name: str
    reason: str = ""
    request_id: str = ""

    @property
    def is_operator(self) -> bool:
        """Tell whether staff, a backend or somebody with a shell acts, not a customer or time."""
        return self.name.startswith(OPERATORS)


SYSTEM = Actor(name="system")
