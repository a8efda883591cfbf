"""Show in a template what the caller may use: `{% load entitlements %}`.

They ask `request.entitlements`, so that a page of many questions takes one reading.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import template
from django.template import Context, Node, NodeList
from django.template.base import FilterExpression, Parser, Token
from django.utils.safestring import SafeString

from metering.enforcement.middleware import Entitlements
from metering.selectors import Standing

register = template.Library()


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What a usage bar shows of one metered feature; `limit_units` None is unlimited."""

    feature_key: str
    counted_units: int
    limit_units: int | None
    resets_at: datetime | None
    is_full: bool


class EntitledNode(Node):
    """Render one branch or the other."""

    def __init__(self, feature_key: FilterExpression, granted: NodeList, denied: NodeList) -> None:
        self.feature_key = feature_key
        self.granted = granted
        self.denied = denied

    def render(self, context: Context) -> SafeString:
        """Return the branch that the caller's entitlements choose."""
        key = str(self.feature_key.resolve(context))
        chosen = self.granted if _entitlements(context).allows(key) else self.denied
        return chosen.render(context)


@register.tag
def entitled(parser: Parser, token: Token) -> EntitledNode:
    """Show what stands up to `{% endentitled %}` where the caller may use the feature.

    `{% entitled "sso" %} … {% else %} … {% endentitled %}`; the key may be a variable.

    :raises TemplateSyntaxError: without exactly one key.
    """
    words = token.split_contents()
    if len(words) != 2:
        msg = f"{words[0]} takes the key of one feature"
        raise template.TemplateSyntaxError(msg)
    granted = parser.parse(("else", "endentitled"))
    denied = NodeList()
    if parser.next_token().contents == "else":
        denied = parser.parse(("endentitled",))
        parser.delete_first_token()
    return EntitledNode(parser.compile_filter(words[1]), granted, denied)


@register.inclusion_tag("metering/usage_bar.html", takes_context=True)
def usage_bar(context: Context, feature_key: str) -> dict[str, Any]:
    """Show what the caller has used of a metered feature, and of how much.

    Nothing is shown where nothing of it is granted.
    """
    standing = _entitlements(context).standing(feature_key)
    return {"bar": None if standing is None else _bar(standing)}


def _bar(standing: Standing) -> Bar:
    counted = standing.balance.counted_units if standing.balance else 0
    return Bar(
        feature_key=standing.feature.key,
        counted_units=counted,
        limit_units=standing.limit_units,
        resets_at=standing.resets_at,
        is_full=standing.remaining_units == 0,
    )


def _entitlements(context: Context) -> Entitlements:
    found: Entitlements = context["request"].entitlements
    return found
