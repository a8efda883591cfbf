"""Charge a view's call to the caller's customer: `@requires_entitlement("api_calls")`."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Literal, ParamSpec

import orjson
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from core import clock, db
from core.api import problems, requests
from core.errors import DomainError
from core.models import Customer
from core.services import idempotency
from core.services.idempotency import KeyedRequest
from metering.enforcement import callers
from metering.enforcement.callers import AnyRequest, FindCustomer
from metering.services import consumption, holds, opening
from metering.services.drawing import For, Wanted

P = ParamSpec("P")
View = Callable[P, HttpResponseBase]
Charge = Literal["on_success", "before"]
FAILED_STATUS_MIN = 400
SCOPE = "usage:write"


@dataclass(frozen=True, kw_only=True)
class _Toll:
    """What a view's call costs, and how it is charged."""

    feature_key: str
    units: int
    charge: Charge
    ttl_seconds: int
    customer: FindCustomer | None
    joins_transaction: bool


@dataclass(frozen=True, kw_only=True)
class _Payer:
    """Who is charged for one call."""

    customer: Customer
    used_by: For


def requires_entitlement(
    feature_key: str,
    *,
    units: int = 1,
    charge: Charge = "on_success",
    ttl_seconds: int = holds.TTL_SECONDS_DEFAULT,
    customer: FindCustomer | None = None,
    joins_transaction: bool = False,
) -> Callable[[View[P]], View[P]]:
    """Let a view or DRF method run only where its caller may use the units, and count them.

    `on_success` holds them, captures them where the view answers below 400, and releases them
    where it answers otherwise or raises; they live `ttl_seconds`, which is more than the view
    takes. `before` consumes them, whatever becomes of the view. The key is the request's
    Idempotency-Key, else a fresh one: under a key that was charged, the view runs again and
    nothing is charged again. A refusal is the API's problem document.

    The customer is the caller's own, or what `customer` finds for the request. Each charge is a
    short transaction of its own, so that the view must not run in one. With `joins_transaction`,
    which needs `before`, the units are counted in the transaction that stands and roll back with
    it; a key has no part in that.

    :raises ValueError, TypeError: where the view cannot be charged so.
    """
    if joins_transaction and charge != "before":
        msg = 'joins_transaction needs charge="before": a hold is a transaction of its own'
        raise ValueError(msg)
    toll = _Toll(
        feature_key=feature_key,
        units=units,
        charge=charge,
        ttl_seconds=ttl_seconds,
        customer=customer,
        joins_transaction=joins_transaction,
    )

    def decorate(view: View[P]) -> View[P]:
        if iscoroutinefunction(view):
            msg = "an asynchronous view cannot be charged: its transactions would block the loop"
            raise TypeError(msg)

        @functools.wraps(view)
        def charged(*args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            request = _request_among(args)
            _refuse_wrong_transaction(toll)
            try:
                return _charged(toll, request, lambda: view(*args, **kwargs))
            except DomainError as error:
                if isinstance(request, Request):
                    raise  # to the API's exception handler
                return problems.respond(error, request=request)

        return charged

    return decorate


def _request_among(args: tuple[object, ...]) -> AnyRequest:
    """Return the request: the first argument of a function, the second of a method."""
    for each in args[:2]:
        if isinstance(each, HttpRequest | Request):
            return each
    msg = "requires_entitlement stands on a view: its first argument is the request"
    raise TypeError(msg)


def _refuse_wrong_transaction(toll: _Toll) -> None:
    if db.is_in_transaction() != toll.joins_transaction:
        msg = (
            "this view joins a transaction, and there is none"
            if toll.joins_transaction
            else "this view is charged in short transactions of its own and must not run inside "
            "another one, which could roll back what was answered; take ATOMIC_REQUESTS or the "
            'atomic block off it, or say charge="before", joins_transaction=True'
        )
        raise RuntimeError(msg)


def _charged(
    toll: _Toll, request: AnyRequest, run: Callable[[], HttpResponseBase]
) -> HttpResponseBase:
    identity = callers.identity_of(request)
    found = (
        toll.customer(request)
        if toll.customer is not None
        else callers.access_customer(request, identity, scope=SCOPE)
    )
    payer = _Payer(customer=found, used_by=callers.used_by(identity))
    if toll.charge == "on_success":
        return _run_held(toll, request, payer, run)
    if toll.joins_transaction:
        _consume_in_transaction(toll, payer)
    else:
        _consume(toll, request, payer)
    return run()


def _run_held(
    toll: _Toll, request: AnyRequest, payer: _Payer, run: Callable[[], HttpResponseBase]
) -> HttpResponseBase:
    with holds.held(
        customer_id=payer.customer.pk,
        feature_key=toll.feature_key,
        units=toll.units,
        ttl_seconds=toll.ttl_seconds,
        used_by=payer.used_by,
        keyed=_keyed(request),
        request_id=problems.request_id(request),
    ) as hold:
        response = run()
        if response.status_code >= FAILED_STATUS_MIN:
            hold.abandon()
    return response


def _consume(toll: _Toll, request: AnyRequest, payer: _Payer) -> None:
    asked = consumption.Request(
        customer_id=payer.customer.pk,
        wanted=[Wanted(feature_key=toll.feature_key, units=toll.units)],
        keyed=_keyed(request),
        used_by=payer.used_by,
        request_id=problems.request_id(request),
    )
    consumption.consume(asked, clock=clock.process_clock())


def _consume_in_transaction(toll: _Toll, payer: _Payer) -> None:
    customer = opening.lock_customer_step(customer_id=payer.customer.pk)
    wanted = [Wanted(feature_key=toll.feature_key, units=toll.units)]
    asked = consumption.StepRequest(wanted=wanted, used_by=payer.used_by)
    consumption.consume_step(customer=customer, asked=asked, clock=clock.process_clock())


def _keyed(request: AnyRequest) -> KeyedRequest:
    """Return the request's key with its fingerprint, or a fresh one.

    :raises Malformed: for a key that is not 1 … 255 visible ASCII characters.
    """
    key = request.headers.get(requests.HEADER)
    if key is None:
        return holds.fresh_key()
    requests.refuse_odd_key(key)
    fingerprint = idempotency.fingerprint(
        method=request.method or "", path=request.get_full_path(), body=_body(request)
    )
    return KeyedRequest(key=key, fingerprint=fingerprint)


def _body(request: AnyRequest) -> object:
    """Return what the request says, as JSON can hold it; a file counts by its name."""
    if isinstance(request, Request):
        return orjson.loads(orjson.dumps(request.data, default=str))
    return request.body.decode("latin-1")
