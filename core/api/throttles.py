"""Slow down whoever tries passwords or fills mailboxes, per account and address.

The counts stand in the database, so they hold over all processes and without Redis. An account
is counted by the name that was typed, whether or not it exists.
"""

from rest_framework.request import Request

from core import errors
from core.api import addresses
from core.rates import Limit, Verdict
from core.services import rates

LOGIN_ACCOUNT = Limit(name="login-account", requests=30, seconds=900)
LOGIN_ADDRESS = Limit(name="login-address", requests=300, seconds=900)
REGISTRATION_ADDRESS = Limit(name="register-address", requests=20, seconds=60)
MAIL_ACCOUNT = Limit(name="mail-account", requests=5, seconds=3600)
MAIL_ADDRESS = Limit(name="mail-address", requests=30, seconds=3600)
LINK_ADDRESS = Limit(name="link-address", requests=60, seconds=3600)
PASSWORD_ACCOUNT = Limit(name="password-account", requests=10, seconds=900)


def hold_back(
    request: Request, *, address: Limit | None = None, account: Limit | None = None, name: str = ""
) -> None:
    """Count the request for its address and the account it names; all limits or none.

    :raises RateLimited: with the seconds to wait.
    """
    limited = []
    if address is not None:
        caller = addresses.limited_by(addresses.client_address(request._request))  # noqa: SLF001 - the address is Django's
        limited.append(rates.limited(address, caller=f"address {caller}"))
    if account is not None:
        limited.append(rates.limited(account, caller=f"account {name.lower()}"))
    verdict = rates.DatabaseStore().take(limited)
    if not verdict.is_allowed:
        raise refusal(verdict)


def refusal(verdict: Verdict) -> errors.RateLimited:
    """Return the refusal of a request beyond its rate."""
    seconds = verdict.retry_after_seconds
    detail = f"Too many requests; try again in {seconds} seconds."
    return errors.RateLimited(detail, facts={"retry_after_seconds": seconds})
