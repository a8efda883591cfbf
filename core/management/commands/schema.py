"""Write the OpenAPI schema to openapi.yaml, or check that it is up to date."""

import io
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    """Keep the committed schema equal to the generated one."""

    help = "Write openapi.yaml, or compare it with --check."

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the options."""
        parser.add_argument("--check", action="store_true", help="Fail where it is out of date.")

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Write or compare the schema."""
        generated = io.StringIO()
        call_command("spectacular", validate=True, fail_on_warn=True, stdout=generated)
        committed = Path(settings.BASE_DIR) / "openapi.yaml"
        if not options["check"]:
            committed.write_text(generated.getvalue(), encoding="utf-8")
        elif committed.read_text(encoding="utf-8") != generated.getvalue():
            message = "openapi.yaml is out of date: run `python manage.py schema` and commit it."
            raise CommandError(message)
