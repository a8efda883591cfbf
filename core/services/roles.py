"""Make the roles of staff: groups whose permissions are exactly what the table says."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType

from core import db


@dataclass(frozen=True, kw_only=True)
class Granted:
    """A role and how many permissions it has now."""

    role: str
    permissions: int


class NothingGranted(LookupError):
    """Report a pattern that names no permission: a typo, never a silent loss of rights."""


def make(*, table: Mapping[str, Sequence[str]], declared: Collection[str]) -> list[Granted]:
    """Give each role exactly the permissions that its patterns name; safe to repeat.

    A pattern is `app.codename` and may hold `*`. What operations declare, as `app.verb_model`, is
    made where Django's own permissions do not have it. Members of the groups stay.

    :raises NothingGranted: for a pattern that names nothing; nothing changed then.
    """
    with db.transaction():
        for name in sorted(declared):
            _ensure(name)
        known = {
            f"{each.content_type.app_label}.{each.codename}": each
            for each in Permission.objects.select_related("content_type")
        }
        granted = []
        for role, patterns in table.items():
            names = {name for pattern in patterns for name in _matching(known, pattern)}
            group, _ = Group.objects.get_or_create(name=role)
            group.permissions.set([known[name] for name in sorted(names)])
            granted.append(Granted(role=role, permissions=len(names)))
        return granted


def _ensure(name: str) -> None:
    app_label, _, codename = name.partition(".")
    verb, _, model = codename.rpartition("_")
    kind = ContentType.objects.get_by_natural_key(app_label, model)
    words = {"name": f"Can {verb.replace('_', ' ')} {kind.name}"}
    Permission.objects.get_or_create(content_type=kind, codename=codename, defaults=words)


def _matching(known: Mapping[str, Permission], pattern: str) -> list[str]:
    names = [name for name in known if fnmatchcase(name, pattern)]
    if not names:
        msg = f"{pattern} names no permission; migrate first, or mend the table"
        raise NothingGranted(msg)
    return names
