"""Explain a decision: what is in force, what is counted, and the rule that decides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from core import clock as clocks
from core import errors as core_errors
from core.models import Customer
from metering import decision, errors, grants, selectors
from metering.decision import Denied, Draw, Item, Place
from metering.models import Balance, Grant, Hold, UsageEntry
from metering.selectors import Overview, Standing
from metering.services import checking, drawing, past, sentences
from metering.services.drawing import For, Wanted
from subscriptions import selectors as subscription_selectors
from subscriptions.effective import Effective
from subscriptions.facts import FeatureFacts
from subscriptions.models import Feature

LIST_MAX = 100
DECISIONS = (UsageEntry.Kind.CONSUME, UsageEntry.Kind.DENIED, UsageEntry.Kind.HOLD)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a customer may or may not use so many units at an instant; `code` empty if he may."""

    feature: FeatureFacts
    units: int
    at: datetime
    code: str
    rule: str
    standing: Standing
    effective: Effective
    grants: Sequence[Grant]
    holds: Sequence[Hold]
    steps: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be explained: units of a feature for a customer, now or at an instant."""

    customer: Customer
    feature: FeatureFacts
    units: int = 1
    at: datetime | None = None
    used_by: For = field(default_factory=For)


def explain(question: Question, *, clock: clocks.Clock) -> Explanation:
    """Return the decision on the units and how it comes about, at an instant or now.

    A later instant is explained by the facts of now: what is scheduled counts, and usage that
    is not there yet does not. An earlier one, in any usage period, is retraced from what is kept:
    the timeline, the ledger, holds, grants, and the spans of add-ons and overrides.

    :raises Invalid: for a missing entity, or an instant that would take too much to retrace.
    """
    customer = question.customer
    now = clocks.customer_clock(customer, clock=clock).now()
    instant = question.at or now
    if instant < now:
        return _explain_past(question, at=instant)
    facts = subscription_selectors.get_customer_facts(customer=customer)
    rows = list(Balance.objects.filter(customer=customer, scope="").open_after(now))
    overview = selectors.overview_of(facts, rows=rows, at=instant)
    if question.feature.type == Feature.Type.METERED:
        standing, code = _decide(question, overview)
    else:
        standing, code = _switch(overview, question.feature)
    return _explanation(
        question,
        standing,
        code=code,
        at=instant,
        given=_usable(customer, question.feature, at=instant),
        held=_live(customer, question.feature, at=instant),
    )


def _explain_past(question: Question, *, at: datetime) -> Explanation:
    customer, feature = question.customer, question.feature
    history = subscription_selectors.get_history(customer=customer)
    if feature.type != Feature.Type.METERED:
        overview = selectors.overview_of(history.facts_at(at), rows=(), at=at)
        standing, code = _switch(overview, feature)
        return _explanation(question, standing, code=code, at=at, given=(), held=())
    items, features = _asked(question)
    stood = {
        place: past.stood_at(
            history, customer=customer, feature=features[place.feature_id], scope=place.scope, at=at
        )
        for place in sorted(drawing.places_of(items))
    }
    standings = {place: each.standing for place, each in stood.items()}
    standing, code = _decided(items, standings)
    own = stood[items[0].draws[0].place]
    return _explanation(question, standing, code=code, at=at, given=own.grants, held=own.holds)


def _explanation(
    question: Question,
    standing: Standing,
    *,
    code: str,
    at: datetime,
    given: Sequence[Grant],
    held: Sequence[Hold],
) -> Explanation:
    return Explanation(
        feature=question.feature,
        units=question.units,
        at=at,
        code=code,
        rule=sentences.rule_of(standing, code=code),
        standing=standing,
        effective=standing.derived.effective,
        grants=given,
        holds=held,
        steps=tuple(sentences.steps_of(standing, units=question.units, code=code)),
    )


def explain_entry(*, customer: Customer, entry_id: UUID) -> Explanation:
    """Return the explanation of a recorded decision: the same answer again, and why.

    It is decided anew by the one decision, from the figures that the ledger kept of it.

    :raises NotFound: for a line that is not this customer's, or decided nothing.
    """
    entry = (
        UsageEntry.objects.filter(
            pk=entry_id, customer=customer, kind__in=DECISIONS, drawn_for__isnull=True
        )
        .select_related("feature", "balance")
        .first()
    )
    if entry is None:
        raise core_errors.NotFound("There is no such decision.")
    feature = subscription_selectors.get_feature(key=entry.feature.key)
    history = subscription_selectors.get_history(customer=customer)
    facts = history.facts_at(entry.consumed_at)
    row = past.row_before(entry)
    overview = selectors.overview_of(facts, rows=[] if row is None else [row], at=entry.consumed_at)
    standing = selectors.standing_of(overview, feature=feature)
    code = entry.denial["code"] if entry.denial is not None else ""
    if row is not None and code in {"", errors.UsageLimitReached.code}:
        standing = replace(standing, balance=row)
        code = _decided_on(row, feature, units=entry.units)
    return _explanation(
        Question(customer=customer, feature=feature, units=entry.units),
        standing,
        code=code,
        at=entry.consumed_at,
        given=_usable(customer, feature, at=entry.consumed_at),
        held=_live(customer, feature, at=entry.consumed_at),
    )


def _decided_on(row: Balance, feature: FeatureFacts, *, units: int) -> str:
    place = Place(row.feature_id, row.scope)
    draw = Draw(place=place, feature_key=feature.key, units=units)
    item = Item(feature_id=row.feature_id, feature_key=feature.key, units=units, draws=(draw,))
    outcome = decision.decide([item], balances={place: row}, codes={})
    return outcome.code if isinstance(outcome, Denied) else ""


def _asked(question: Question) -> tuple[list[Item], dict[int, FeatureFacts]]:
    """Return the question as an item, and the features that count it."""
    by_key = drawing.get_metered_features(keys=[question.feature.key])
    wanted = [Wanted(feature_key=question.feature.key, units=question.units)]
    items = drawing.items_of(wanted, features=by_key, used_by=question.used_by)
    return items, {each.id: each for each in by_key.values()}


def _decide(question: Question, overview: Overview) -> tuple[Standing, str]:
    items, features = _asked(question)
    standings = checking.standings_of(overview=overview, items=items, features=features)
    return _decided(items, standings)


def _decided(items: Sequence[Item], standings: Mapping[Place, Standing]) -> tuple[Standing, str]:
    """Return what decides on the item, and the code that denies it; empty for none."""
    rows, codes = checking.decided_from(standings)
    outcome = decision.decide(items, balances=rows, codes=codes)
    if isinstance(outcome, Denied):
        return standings[outcome.draw.place], outcome.code
    return standings[items[0].draws[0].place], ""


def _switch(overview: Overview, feature: FeatureFacts) -> tuple[Standing, str]:
    standing = selectors.standing_of(overview, feature=feature)
    return standing, checking.switch_code(standing)


def _usable(customer: Customer, feature: FeatureFacts, *, at: datetime) -> list[Grant]:
    given = Grant.objects.filter(customer=customer, feature_id=feature.id).order_by("id")
    return [each for each in given[:LIST_MAX] if grants.source_of(each).is_active(at)]


def _live(customer: Customer, feature: FeatureFacts, *, at: datetime) -> list[Hold]:
    live = Hold.objects.filter(
        customer=customer, feature_id=feature.id, state=Hold.State.LIVE, created_at__lte=at
    )
    return [
        each
        for each in live.order_by("id")[:LIST_MAX]
        if each.expires_at is None or at < each.expires_at
    ]
