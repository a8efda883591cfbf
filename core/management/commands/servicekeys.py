"""Make, list, rotate and revoke service keys from a terminal."""

import getpass
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core import clock as clocks
from core.actors import Actor
from core.errors import DomainError
from core.models import SCOPES, ServiceKey
from core.services import service_keys

DAY_SECONDS = 86_400


class Command(BaseCommand):
    """Do one thing with service keys; a credential is printed once and never again."""

    help = "servicekeys create NAME --scope usage:write | list | rotate PREFIX | revoke PREFIX"

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the actions."""
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create")
        create.add_argument("name")
        create.add_argument("--scope", action="append", choices=SCOPES, required=True)
        create.add_argument("--days", type=int, help="Days until it expires (never).")
        actions.add_parser("list")
        rotate = actions.add_parser("rotate")
        rotate.add_argument("prefix")
        rotate.add_argument(
            "--overlap-seconds", type=int, default=DAY_SECONDS, help="Both work so long (86400)."
        )
        revoke = actions.add_parser("revoke")
        revoke.add_argument("prefix")
        for each in (create, rotate, revoke):
            each.add_argument("--reason", default="")

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Do it."""
        try:
            getattr(self, f"_{options['action']}")(options)
        except DomainError as error:
            raise CommandError(error.detail) from error

    def _create(self, options: dict[str, Any]) -> None:
        clock = clocks.process_clock()
        days = options["days"]
        made = service_keys.create(
            name=options["name"],
            scopes=options["scope"],
            expires_at=clock.now() + timedelta(days=days) if days is not None else None,
            actor=_actor(options),
            clock=clock,
        )
        self.stdout.write(made.credential)

    def _list(self, _: dict[str, Any]) -> None:
        at = clocks.process_clock().now()
        for key in ServiceKey.objects.order_by("created_at"):
            state = "usable" if key.is_usable(at=at) else "ended"
            last_use = key.last_used_at or "never"
            self.stdout.write(
                f"{key.prefix}  {state}  {key.name}  {','.join(key.scopes)}  last used {last_use}"
            )

    def _rotate(self, options: dict[str, Any]) -> None:
        rotated = service_keys.rotate(
            service_key_id=_named(options["prefix"]).pk,
            overlap_seconds=options["overlap_seconds"],
            actor=_actor(options),
            clock=clocks.process_clock(),
        )
        self.stdout.write(rotated.credential)

    def _revoke(self, options: dict[str, Any]) -> None:
        service_keys.revoke(
            service_key=_named(options["prefix"]),
            actor=_actor(options),
            clock=clocks.process_clock(),
        )
        self.stdout.write(f"{options['prefix']} is revoked")


def _named(prefix: str) -> ServiceKey:
    key = ServiceKey.objects.filter(prefix=prefix).first()
    if key is None:
        message = f"There is no service key {prefix}; see `manage.py servicekeys list`."
        raise CommandError(message)
    return key


def _actor(options: dict[str, Any]) -> Actor:
    return Actor(name=f"shell {getpass.getuser()}", reason=options["reason"])
