"""Write an explanation as the API shows it."""

from metering.api.bodies import Body, instant, period, sources
from metering.api.hold_bodies import grant
from metering.models import Hold
from metering.services.explaining import Explanation


def explanation(explained: Explanation) -> Body:
    """Return an explanation."""
    standing, group = explained.standing, explained.standing.derived.in_force
    shares = sources(explained.effective.shares)
    balance: Body | None = None
    if standing.derived.period is not None:
        balance = {
            "used": standing.used_units,
            "held": standing.held_units,
            "limit": standing.limit_units,
            "remaining": standing.remaining_units,
            "period": period(
                starts_at=standing.derived.period.starts_at,
                ends_at=standing.derived.period.ends_at,
            ),
        }
    plan: Body | None = None
    if group.version is not None:
        plan = {
            "key": group.version.plan_key,
            "version": group.version.number,
            "status": group.status,
        }
    return {
        "allowed": not explained.code,
        "code": explained.code or None,
        "feature": explained.feature.key,
        "units": explained.units,
        "at": instant(explained.at),
        "rule": explained.rule,
        "plan": plan,
        "add_ons": [each for each in shares if each["kind"] == "add_on"],
        "overrides": [each for each in shares if each["kind"] == "override"],
        "grants": [grant(each) for each in explained.grants],
        "holds": [_explained_hold(each) for each in explained.holds],
        "balance": balance,
        "steps": list(explained.steps),
    }


def _explained_hold(each: Hold) -> Body:
    return {
        "id": str(each.operation_id),
        "units": each.units,
        "expires_at": instant(each.expires_at),
        "usage_at": instant(each.usage_at),
    }
