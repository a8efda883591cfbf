"""Make the roles of staff as groups; safe to repeat."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from core.admin import base
from core.services import roles
from subscriptionEngine.roles import ROLES


class Command(BaseCommand):
    """Give each role exactly what `subscriptionEngine/roles.py` says."""

    help = "Make the groups catalog manager, support, finance, read-only and owner."

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Make them, and say how much each may do."""
        try:
            granted = roles.make(table=ROLES, declared=base.declared_permissions())
        except roles.NothingGranted as error:
            raise CommandError(str(error)) from error
        for each in granted if options["verbosity"] else ():
            self.stdout.write(f"{each.role}: {each.permissions} permissions")
