"""Views that are charged, opened by a plan, or show what somebody may."""

import json
import os
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, connections, transaction
from django.http import HttpResponse, JsonResponse
from django.template import Context, Template, TemplateSyntaxError
from django.test import RequestFactory
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart
from django.views import View
from rest_framework.decorators import api_view
from rest_framework.parsers import MultiPartParser
from rest_framework.permissions import IsAdminUser
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from core import clock
from core import errors as core_errors
from core.models import Customer, Member
from metering import errors
from metering.enforcement.decorators import requires_entitlement
from metering.enforcement.middleware import EntitlementsMiddleware
from metering.enforcement.permissions import HasEntitlement
from metering.models import Balance, Hold, UsageEntry
from metering.testing import give, use
from subscriptions import errors as subscription_errors
from subscriptions.models import Feature, FeatureSwitch, Subscription
from subscriptions.switches import Switch, remember
from tests import factories

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("standing_clock")]
AT = datetime(2026, 3, 10, 12, tzinfo=UTC)
State = FeatureSwitch.State


@pytest.fixture
def user():
    factories.make_plan(
        "free",
        at=AT,
        limits={"api_calls": 10},
        booleans={"sso": True, "reports_pdf": False},
        statics={"storage_gb": 5},
    )
    user = factories.make_user(at=AT, username="ada")
    use(user, "api_calls", units=4)
    return user


@pytest.fixture
def customer(user):
    return factories.customer_of(user)


def team(user):
    """Give the user a plan with 8 notes, counted per member and in all."""
    factories.make_feature("notes", at=AT)
    Feature.objects.filter(key="notes").update(scope=Feature.Scope.MEMBER)
    factories.make_plan("team", at=AT, limits={"notes": 8})
    give(user, "team")


def units(customer):
    row = Balance.objects.get(customer=customer, feature__key="api_calls")
    return row.used_units, row.held_units


def everything():
    return [list(model.objects.order_by("id").values()) for model in (Balance, UsageEntry, Hold)]


def by_session(user, path="/", key=None, **extra):
    headers = {"Idempotency-Key": key} if key else {}
    request = RequestFactory().get(path, headers=headers, **extra)
    request.user = user
    return request


def by_token(client, path="/", key=None, method="get", body=None, content_type=None):
    extra = {"HTTP_AUTHORIZATION": client._credentials["HTTP_AUTHORIZATION"]}
    if key:
        extra["HTTP_IDEMPOTENCY_KEY"] = key
    return getattr(APIRequestFactory(), method)(path, body, content_type=content_type, **extra)


def problem(response):
    response = response.render() if hasattr(response, "render") else response
    assert response["Content-Type"] == "application/problem+json"
    body = json.loads(response.content)
    assert body["status"] == response.status_code
    return response.status_code, body["code"]


@requires_entitlement("api_calls", units=5)
def succeed(request):
    return HttpResponse("done")


@requires_entitlement("api_calls", units=5, charge="before")
def consume_first(request):
    if "boom" in request.GET:
        raise ZeroDivisionError
    return HttpResponse("done")


@requires_entitlement("api_calls", units=5)
def fail(request):
    if "boom" in request.GET:
        raise ZeroDivisionError
    if "refused" in request.GET:
        raise core_errors.NotFound("There is no such report.")
    return HttpResponse(status=int(request.GET["status"]))


class Work(APIView):
    parser_classes = [*APIView.parser_classes, MultiPartParser]

    @requires_entitlement("api_calls", units=5)
    def get(self, request):
        if "refused" in request.query_params:
            raise core_errors.NotFound("There is no such report.")
        return Response({"done": True})

    @requires_entitlement("api_calls", units=5)
    def post(self, request):
        return Response({"done": True})


class TestDecorator:
    def test_counts_a_success_by_a_session(self, user, customer, django_assert_num_queries):
        request = by_session(user)
        with django_assert_num_queries(18):  # the memberships, and a hold with its capture
            assert succeed(request).status_code == 200
        assert units(customer) == (9, 0)

    def test_counts_a_success_by_a_token(self, user, customer, django_assert_num_queries):
        request = by_token(factories.client_for(user))
        with django_assert_num_queries(18):
            assert Work.as_view()(request).status_code == 200
        assert units(customer) == (9, 0)

    def test_consumes_before(self, user, customer, django_assert_num_queries):
        request = by_session(user)
        counted = 2 if connection.vendor == "postgresql" else 4
        with django_assert_num_queries(3 + counted):
            assert consume_first(request).status_code == 200
        assert units(customer) == (9, 0)

    def test_consumes_before_a_view_that_fails_too(self, user, customer):
        with pytest.raises(ZeroDivisionError):
            consume_first(by_session(user, "/?boom"))
        assert units(customer) == (9, 0)

    @pytest.mark.parametrize(("status", "used"), [(204, 9), (302, 9), (400, 4), (404, 4), (500, 4)])
    def test_counts_below_400_alone(self, user, customer, status, used):
        assert fail(by_session(user, f"/?status={status}")).status_code == status
        assert units(customer) == (used, 0)

    def test_releases_where_the_view_raises(self, user, customer):
        with pytest.raises(ZeroDivisionError):
            fail(by_session(user, "/?boom"))
        assert units(customer) == (4, 0)
        assert Hold.objects.get().state == "released"

    def test_releases_where_the_view_refuses(self, user, customer):
        assert problem(fail(by_session(user, "/?refused"))) == (404, "not_found")
        request = by_token(factories.client_for(user), "/?refused")
        assert problem(Work.as_view()(request)) == (404, "not_found")
        assert units(customer) == (4, 0)

    def test_answers_a_denial_as_the_api_does(self, user, customer):
        use(user, "api_calls", units=2)
        client = factories.client_for(user)
        body = {"feature": "api_calls", "units": 5}
        said = client.post("/api/usage/consume/", body, HTTP_IDEMPOTENCY_KEY="api").json()
        ours = (
            "type",
            "title",
            "status",
            "code",
            "detail",
            "limit",
            "used",
            "remaining",
            "upgrade",
        )
        before = units(customer)
        for answer in (
            succeed(by_session(user)),
            consume_first(by_session(user)),
            Work.as_view()(by_token(client)).render(),
        ):
            assert problem(answer) == (403, "usage_limit_reached")
            shown = json.loads(answer.content)
            assert {name: shown[name] for name in ours} == {name: said[name] for name in ours}
        assert units(customer) == before
        assert Hold.objects.count() == 0

    def test_charges_nobody_for_nobody(self, user):
        before = everything()
        anonymous = RequestFactory().get("/")
        assert problem(succeed(anonymous)) == (401, "unauthenticated")
        assert everything() == before

    def test_charges_nobody_for_who_has_no_customer(self, user):
        before = everything()
        Member.objects.all().delete()
        assert problem(succeed(by_session(user))) == (404, "not_found")
        assert everything() == before

    def test_asks_which_of_several_customers(self, user, customer):
        other = factories.make_customer(at=AT, name="club")
        Member.objects.create(user=user, customer=other)
        before = everything()
        assert problem(succeed(by_session(user))) == (422, "invalid")
        assert everything() == before
        assert succeed(by_session(user, "/?customer=club")).status_code == 200
        assert units(other) == (5, 0)
        assert units(customer) == (4, 0)

    def test_charges_whom_a_service_key_names(self, customer):
        request = by_token(factories.service_client(), f"/?customer={customer.pk}")
        assert Work.as_view()(request).status_code == 200
        assert units(customer) == (9, 0)

    def test_refuses_a_service_key_without_the_scope(self, customer):
        before = everything()
        client = factories.service_client(scopes=("usage:read",))
        request = by_token(client, f"/?customer={customer.pk}")
        assert problem(Work.as_view()(request)) == (403, "insufficient_scope")
        assert everything() == before

    def test_stands_under_api_view_and_on_a_django_method(self, user, customer):
        @api_view()
        @requires_entitlement("api_calls")
        def call(request):
            return Response({"done": True})

        class Page(View):
            @requires_entitlement("api_calls")
            def get(self, request):
                return HttpResponse("done")

        assert call(by_token(factories.client_for(user))).status_code == 200
        assert Page.as_view()(by_session(user)).status_code == 200
        assert units(customer) == (6, 0)

    def test_counts_per_member_where_the_feature_is(self, user, customer):
        team(user)
        view = requires_entitlement("notes", units=5)(lambda request: HttpResponse("done"))
        assert view(by_session(user)).status_code == 200
        used = Balance.objects.filter(customer=customer, feature__key="notes", used_units=5)
        assert set(used.values_list("scope", flat=True)) == {"", f"member:{user.pk}"}


class TestKey:
    def test_that_was_charged_is_not_charged_again(self, user, customer):
        for view in (succeed, succeed):
            assert view(by_session(user, key="k")).status_code == 200
        assert units(customer) == (9, 0)

    def test_that_was_charged_before_is_not_charged_again(self, user, customer):
        for _ in range(2):
            assert consume_first(by_session(user, key="k")).status_code == 200
        assert units(customer) == (9, 0)

    def test_of_a_view_that_failed_is_good_for_another_attempt(self, user, customer):
        answers = [
            fail(by_session(user, path="/?status=503", key="k")).status_code for _ in range(2)
        ]
        assert answers == [503, 503]
        assert units(customer) == (4, 0)

    def test_replays_a_denial(self, user, customer):
        use(user, "api_calls", units=2)
        first, again = (succeed(by_session(user, key="k")) for _ in range(2))
        assert problem(first) == problem(again) == (403, "usage_limit_reached")
        assert again["Idempotent-Replayed"] == "true"
        assert UsageEntry.objects.filter(kind="denied").count() == 1

    @pytest.mark.parametrize("path", ["/other/", "/?other"])
    def test_of_another_request_is_refused(self, user, customer, path):
        assert succeed(by_session(user, key="k")).status_code == 200
        before = everything()
        assert problem(succeed(by_session(user, path, key="k"))) == (422, "idempotency_key_reused")
        assert everything() == before

    def test_of_another_body_is_refused(self, user):
        client = factories.client_for(user)
        ask = Work.as_view()
        body = {"a": 1}
        assert ask(by_token(client, key="k", method="post", body=body)).status_code == 200
        before = everything()
        twin = by_token(client, key="k", method="post", body={"a": 2})
        assert problem(ask(twin)) == (422, "idempotency_key_reused")
        assert everything() == before

    def test_stands_for_a_form_with_a_file_by_its_name(self, user, customer):
        client = factories.client_for(user)
        for _ in range(2):
            body = encode_multipart(BOUNDARY, {"file": SimpleUploadedFile("court.png", b"x")})
            request = by_token(
                client, key="k", method="post", body=body, content_type=MULTIPART_CONTENT
            )
            assert Work.as_view()(request).status_code == 200
        assert units(customer) == (9, 0)

    def test_that_is_no_key_is_refused(self, user):
        before = everything()
        assert problem(succeed(by_session(user, key="a b"))) == (400, "malformed_request")
        assert everything() == before


@requires_entitlement("api_calls", units=5, charge="before", joins_transaction=True)
def join(request):
    Customer.objects.update(name="changed")
    return HttpResponse("done")


@pytest.mark.django_db(transaction=True)
class TestTransaction:
    @pytest.mark.parametrize("view", [succeed, consume_first])
    def test_of_another_is_refused(self, user, view):
        before = everything()
        with transaction.atomic(), pytest.raises(RuntimeError, match="joins_transaction=True"):
            view(by_session(user))
        assert everything() == before

    def test_that_is_joined_must_stand(self, user):
        before = everything()
        with pytest.raises(RuntimeError, match="there is none"):
            join(by_session(user))
        assert everything() == before

    def test_that_is_joined_commits_the_units(self, user, customer):
        with transaction.atomic():
            assert join(by_session(user)).status_code == 200
        assert units(customer) == (9, 0)

    def test_that_is_joined_rolls_the_units_back(self, user, customer):
        before = everything()
        with suppress(ZeroDivisionError), transaction.atomic():
            join(by_session(user))
            assert units(customer) == (9, 0)
            raise ZeroDivisionError
        assert everything() == before

    def test_that_is_joined_refuses_before_the_view_runs(self, user, customer):
        use(user, "api_calls", units=2)
        before = everything()[1:]
        with transaction.atomic():
            assert problem(join(by_session(user))) == (403, "usage_limit_reached")
        assert (units(customer), everything()[1:]) == ((6, 0), before)
        assert not Customer.objects.filter(name="changed").exists()


class TestDecorating:
    def test_refuses_a_hold_in_a_transaction_that_stands(self):
        with pytest.raises(ValueError, match="before"):
            requires_entitlement("api_calls", joins_transaction=True)

    def test_refuses_an_asynchronous_view(self):
        async def view(request):
            """Answer nothing."""

        with pytest.raises(TypeError, match="asynchronous"):
            requires_entitlement("api_calls")(view)

    def test_refuses_what_is_no_view(self):
        with pytest.raises(TypeError, match="first argument"):
            requires_entitlement("api_calls")(len)("text")


@pytest.mark.django_db(transaction=True)
def test_a_view_whose_process_dies_lets_its_hold_expire(user, customer):
    @requires_entitlement("api_calls", units=5, ttl_seconds=60)
    def die(request):
        os._exit(9)

    connections.close_all()
    if hasattr(connection, "close_pool"):
        connection.close_pool()
    child = os.fork()
    if child == 0:
        die(by_session(user))
        os._exit(0)
    _, ended = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended) == 9
    assert units(customer) == (4, 5)
    assert problem(succeed(by_session(user))) == (403, "usage_limit_reached")
    with clock.overridden(factories.standing(AT + timedelta(seconds=60))):
        assert succeed(by_session(user)).status_code == 200
    assert units(customer) == (9, 0)


def guarded(*classes):
    class Guarded(APIView):
        permission_classes = list(classes)

        def get(self, request):
            return Response({"done": True})

    return Guarded.as_view()


def switched(feature_key, state):
    feature_id = Feature.objects.get(key=feature_key).pk
    switch = Switch(state=state, expires_at=AT + timedelta(hours=1))
    remember({feature_id: switch}, loaded_at=float("inf"))


class TestHasEntitlement:
    @pytest.fixture
    def client(self, user):
        return factories.client_for(user)

    def test_lets_pass_by_one_reading(self, client, django_assert_num_queries):
        before = everything()
        view, request = guarded(HasEntitlement("sso")), by_token(client)
        with django_assert_num_queries(6):  # identity, the feature, an overview's four
            assert view(request).status_code == 200
        assert everything() == before

    @pytest.mark.parametrize(
        ("feature", "expected"),
        [
            ("reports_pdf", (403, "feature_not_in_plan")),
            ("reports_pfd", (404, "feature_unknown")),
        ],
    )
    def test_refuses(self, client, feature, expected):
        before = everything()
        assert problem(guarded(HasEntitlement(feature))(by_token(client))) == expected
        assert everything() == before

    def test_reads_whether_a_unit_is_left(self, client, user):
        view = guarded(HasEntitlement("api_calls"))
        assert view(by_token(client)).status_code == 200
        use(user, "api_calls", units=6)
        before = everything()
        assert problem(view(by_token(client))) == (403, "usage_limit_reached")
        assert everything() == before

    def test_refuses_nobody(self, user):
        view = guarded(HasEntitlement("sso"))
        assert problem(view(APIRequestFactory().get("/"))) == (401, "unauthenticated")

    @pytest.mark.parametrize("feature", ["reports_pdf", "exports"])
    def test_names_the_payment_that_a_subscription_awaits(
        self, client, customer, settings, feature
    ):
        settings.ENGINE = replace(settings.ENGINE, default_plan_key="none")
        limits, booleans = {"exports": 5}, {"reports_pdf": True}
        factories.make_plan("pro", at=AT, price_minor=100, limits=limits, booleans=booleans)
        factories.subscribe(customer, "pro", at=AT, pay=False)
        before = everything()
        answer = guarded(HasEntitlement(feature))(by_token(client))
        assert problem(answer) == (402, "payment_required")
        assert json.loads(answer.content)["feature"] == feature
        assert everything() == before

    def test_stands_last_in_a_composition(self, client, user):
        both = guarded(IsAdminUser & HasEntitlement("sso"))
        either = guarded(IsAdminUser | HasEntitlement("sso"))
        assert problem(both(by_token(client))) == (403, "permission_denied")
        assert either(by_token(client)).status_code == 200
        neither = guarded(IsAdminUser | HasEntitlement("reports_pdf"))
        assert problem(neither(by_token(client))) == (403, "feature_not_in_plan")

    def test_heeds_an_operator(self, client):
        switched("sso", State.DENY)
        answer = guarded(HasEntitlement("sso"))(by_token(client))
        assert problem(answer) == (403, "feature_suspended")
        switched("reports_pdf", State.ALLOW)
        assert guarded(HasEntitlement("reports_pdf"))(by_token(client)).status_code == 200


def entitled(user, path="/"):
    """Return a request as it leaves the middleware."""
    request = by_session(user, path)
    EntitlementsMiddleware(lambda _: HttpResponse())(request)
    return request


class TestRequestEntitlements:
    def test_cost_nothing_unused(self, user, django_assert_num_queries):
        with django_assert_num_queries(0):
            entitled(user)

    def test_take_one_reading_for_all_questions(self, user, django_assert_num_queries):
        mine = entitled(user).entitlements
        keys = ("api_calls", "sso", "reports_pdf", "storage_gb")
        mine.allows("reports_pdf")
        again = entitled(user).entitlements
        with django_assert_num_queries(4):  # memberships, two of facts, the balances
            for _ in range(3):
                answers = [again.allows(key) for key in keys]
                assert again.value("storage_gb") == 5
                assert again.standing("api_calls").used_units == 4
        assert answers == [True, True, False, True]

    def test_tell_what_is_left(self, user):
        mine = entitled(user).entitlements
        assert (mine.allows("api_calls", units=6), mine.allows("api_calls", units=7)) == (
            True,
            False,
        )
        assert mine.value("reports_pdf") is None
        assert mine.standing("sso") is None

    def test_of_nobody_are_none(self, user, django_assert_num_queries):
        request = RequestFactory().get("/")
        EntitlementsMiddleware(lambda _: HttpResponse())(request)
        mine = request.entitlements
        assert (mine.allows("sso"), mine.value("storage_gb"), mine.standing("api_calls")) == (
            False,
            None,
            None,
        )

    def test_of_several_customers_are_none_until_one_is_named(self, user):
        other = factories.make_customer(at=AT, name="club")
        Member.objects.create(user=user, customer=other)
        assert not entitled(user).entitlements.allows("sso")
        assert entitled(user, "/?customer=club").entitlements.allows("sso")

    @pytest.mark.parametrize("question", ["allows", "value", "standing"])
    def test_refuse_a_key_that_names_no_feature(self, user, question):
        with pytest.raises(subscription_errors.FeatureUnknown):
            getattr(entitled(user).entitlements, question)("ssoo")

    def test_heed_an_operator(self, user):
        switched("sso", State.DENY)
        assert not entitled(user).entitlements.allows("sso")
        switched("reports_pdf", State.ALLOW)
        assert entitled(user).entitlements.allows("reports_pdf")

    def test_count_per_member_where_the_feature_does(self, user):
        team(user)
        mine = entitled(user).entitlements
        assert (mine.allows("notes", units=8), mine.allows("notes", units=9)) == (True, False)

    def test_are_there_in_an_api_view_too(self, user, client):
        seen = []

        class Page(APIView):
            def get(self, request):
                seen.append(request.entitlements.allows("sso"))
                return Response({})

        request = by_token(factories.client_for(user))
        EntitlementsMiddleware(Page.as_view())(request)
        assert seen == [True]

    def test_stand_in_every_request(self, settings):
        middleware = settings.MIDDLEWARE
        ours = middleware.index("metering.enforcement.middleware.EntitlementsMiddleware")
        assert ours > middleware.index("django.contrib.auth.middleware.AuthenticationMiddleware")


def render(source, request, **names):
    text = "{% load entitlements %}" + source
    return Template(text).render(Context({"request": request, **names}))


class TestTemplateTags:
    def test_choose_a_branch(self, user):
        request = entitled(user)
        both = "{% entitled key %}yes{% else %}no{% endentitled %}"
        alone = '{% entitled "reports_pdf" %}yes{% endentitled %}'
        assert render(both, request, key="sso") == "yes"
        assert render(both, request, key="reports_pdf") == "no"
        assert render(alone, request) == ""

    @pytest.mark.parametrize("words", ["", '"sso" "sso"'])
    def test_want_one_key(self, user, words):
        with pytest.raises(TemplateSyntaxError, match="one feature"):
            render(f"{{% entitled {words} %}}{{% endentitled %}}", entitled(user))

    def test_show_a_bar(self, user):
        shown = render('{% usage_bar "api_calls" %}', entitled(user))
        assert '<progress max="10" value="4" aria-label="api_calls">' in shown
        assert "<span>4 of 10 api_calls</span>" in shown
        assert 'datetime="2026-04-10T12:00:00+00:00"' in shown
        assert "usage-bar-full" not in shown

    def test_show_a_full_bar(self, user):
        use(user, "api_calls", units=6)
        assert "usage-bar-full" in render('{% usage_bar "api_calls" %}', entitled(user))

    def test_show_no_bar_of_what_is_not_granted(self, user):
        factories.make_feature("exports", at=AT)
        assert render('{% usage_bar "exports" %}', entitled(user)).strip() == ""

    def test_show_an_unlimited_bar_without_an_end(self, user):
        factories.make_plan("pro", at=AT, limits={"exports": None}, rank=1)
        give(user, plan="pro")
        shown = render('{% usage_bar "exports" %}', entitled(user))
        assert "<span>0 exports, unlimited</span>" in shown
        assert "<progress" not in shown


class TestGive:
    def test_subscribes_and_pays(self, user):
        factories.make_plan("pro", at=AT, price_minor=2900, limits={"api_calls": 100})
        row = give(user, plan="pro")
        assert (row.status, row.customer) == ("active", factories.customer_of(user))
        use(user, "api_calls", units=96)
        with pytest.raises(errors.UsageLimitReached):
            use(user, "api_calls")
        assert units(row.customer) == (100, 0)

    def test_makes_a_customer_for_who_has_none(self, user):
        Member.objects.all().delete()
        factories.make_plan("basic", at=AT)
        row = give(user, "basic")
        assert Member.objects.get(user=user).customer == row.customer
        assert row.status == "active"

    def test_takes_a_customer(self, customer):
        factories.make_plan("basic", at=AT)
        assert give(customer, "basic").customer == customer

    def test_refuses_a_plan_that_is_not_there(self, user):
        with pytest.raises(subscription_errors.PlanUnknown):
            give(user, "platinum")
        assert Subscription.objects.count() == 0


def test_json_answers_are_charged_too(user, customer):
    view = requires_entitlement("api_calls")(lambda request: JsonResponse({"done": True}))
    assert view(by_session(user)).status_code == 200
    assert units(customer) == (5, 0)
