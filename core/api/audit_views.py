"""Show the audit log to staff."""

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import errors, selectors
from core.api import access, pagination, schema
from core.api import serializers as strict
from core.services import audit

PERMISSION = "core.view_auditentry"
TEXT_LENGTH_MAX = 255
ENTRY_EXAMPLE = {
    "id": "01936d3c-7c00-7000-8000-0000000000c1",
    "at": "2026-11-23T09:30:00Z",
    "actor": "user 1",
    "action": "service_key.revoked",
    "object_type": "core.servicekey",
    "object_id": "01936d3c-7c00-7000-8000-0000000000d1",
    "before": {"revoked_at": None},
    "after": {"revoked_at": "2026-11-23T09:30:00Z"},
    "reason": "leaked",
    "request_id": "0d9f6c2b7a1e4c53",
}


class AuditQuery(strict.QuerySerializer):
    """What of the audit log to show."""

    actor = strict.StrictCharField(max_length=TEXT_LENGTH_MAX, required=False)
    action = strict.StrictCharField(max_length=TEXT_LENGTH_MAX, required=False)
    object_type = strict.StrictCharField(max_length=TEXT_LENGTH_MAX, required=False)
    object_id = strict.StrictCharField(max_length=TEXT_LENGTH_MAX, required=False)
    since = strict.InstantField(required=False)
    until = strict.InstantField(required=False)
    limit = serializers.CharField(required=False)
    cursor = serializers.CharField(required=False)


class AuditEntrySerializer(strict.StrictSerializer):
    """One line of the audit log."""

    id = serializers.UUIDField()
    at = strict.InstantField()
    actor = serializers.CharField()
    action = serializers.CharField()
    object_type = serializers.CharField()
    object_id = serializers.CharField()
    before = serializers.DictField()
    after = serializers.DictField()
    reason = serializers.CharField()
    request_id = serializers.CharField()


class AuditView(APIView):
    """List the audit log."""

    @schema.operation(
        operation_id="listAuditEntries",
        tag="operations",
        summary="List the audit log",
        description="List who changed what, from what to what, and why, newest first. For staff "
        f"with the permission `{PERMISSION}`. Usage and the moves of "
        "subscriptions have records of their own: the ledger and the timeline.",
        answers={200: schema.page_of(AuditEntrySerializer)},
        example={"results": [ENTRY_EXAMPLE], "next": None, "previous": None},
        parameters=(
            OpenApiParameter("actor", str, description="Who acted, as an entry shows it."),
            OpenApiParameter("action", str, description="For example `service_key.revoked`."),
            OpenApiParameter("object_type", str, description="For example `core.servicekey`."),
            OpenApiParameter("object_id", str, description="Id of the thing changed."),
            OpenApiParameter("since", str, description="RFC 3339, inclusive."),
            OpenApiParameter("until", str, description="RFC 3339, exclusive."),
            *schema.PAGE_PARAMETERS,
        ),
        refusals=(
            errors.PermissionDenied,
            errors.UnknownField,
            errors.NaiveDatetime,
            errors.Invalid,
            errors.Malformed,
        ),
    )
    def get(self, request: Request) -> Response:
        """List the audit log."""
        access.access_staff(request, permission=PERMISSION)
        asked = strict.read_query(AuditQuery, request)
        chosen = {name: asked[name] for name in asked if name not in {"limit", "cursor"}}
        entries = selectors.list_audit_entries(**chosen)
        pages = pagination.CursorPages()
        page = pages.paginate_queryset(entries, request, view=self) or []
        return pages.get_paginated_response([audit.line(each) for each in page])
