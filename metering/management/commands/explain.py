"""Explain a decision on the command line, by the code that the API and the admin ask."""

from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError, CommandParser

from core import clock
from core.api import access
from core.api import serializers as strict
from core.errors import DomainError
from metering.api import explanation as explanations
from metering.api.serializers import ExplainQuery
from metering.services import explaining
from metering.services.drawing import For
from metering.services.explaining import Explanation
from subscriptions import selectors as subscription_selectors


class Command(BaseCommand):
    """Say whether a customer may use units of a feature, now or at an instant, and why."""

    help = "Explain why a customer may, or may not, use a feature."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("--customer", required=True, help="id or external key")
        parser.add_argument("--feature", required=True, help="key of a feature")
        parser.add_argument("--units", default="1", help="1 … 10^12 (1)")
        parser.add_argument("--at", help="RFC 3339 with offset (now)")
        parser.add_argument("--entity", help="member or entity, where it is counted per such")
        parser.add_argument("--json", action="store_true", help="what the API answers")

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Explain."""
        try:
            explained = _explained(options)
        except DomainError as error:
            message = f"{error.code}: {error.detail}"
            raise CommandError(message) from error
        if options["json"]:
            self.stdout.write(orjson.dumps(explanations.explanation(explained)).decode())
            return
        self.stdout.write(f"No: {explained.code}." if explained.code else "Yes.")
        self.stdout.write(f"The rule that decides: {explained.rule}.")
        for sentence in explained.steps:
            self.stdout.write(sentence)


def _explained(options: dict[str, Any]) -> Explanation:
    given = {name: options[name] for name in ("customer", "units", "at", "entity")}
    asked = strict.read_values(
        ExplainQuery, {name: value for name, value in given.items() if value is not None}
    )
    question = explaining.Question(
        customer=access.get_customer(named=asked["customer"]),
        feature=subscription_selectors.get_feature(key=options["feature"]),
        units=asked["units"],
        at=asked.get("at"),
        used_by=For(entity=asked.get("entity", "")),
    )
    return explaining.explain(question, clock=clock.process_clock())
