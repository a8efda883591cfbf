"""Describe each operation once: its meaning, one example, and every problem that it may answer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    inline_serializer,
)
from rest_framework import serializers

from core import errors
from core.api import problems
from core.errors import DomainError

View = TypeVar("View", bound=Callable[..., Any])
SerializerClass = type[serializers.BaseSerializer[Any]]
RequestBody = SerializerClass | Mapping[str, Mapping[str, Any]]
Answer = SerializerClass | serializers.BaseSerializer[Any] | OpenApiTypes | None
ALWAYS = (errors.RateLimited, errors.Internal, errors.LockTimeout, errors.Unavailable)
BODY = (
    errors.Malformed,
    errors.UnknownField,
    errors.Invalid,
    errors.PayloadTooLarge,
    errors.UnsupportedMediaType,
)
KEYED = (
    errors.IdempotencyKeyMissing,
    errors.IdempotencyKeyReused,
    errors.IdempotencyInProgress,
)
AUTHENTICATED = (errors.Unauthenticated, errors.TokenRevoked)
CUSTOMER = (errors.NotFound, errors.InsufficientScope, errors.Invalid)
KEY_PARAMETER = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "pattern": "^[!-~]{1,255}$"},
    OpenApiParameter.HEADER,
    required=True,
    description=(
        "1 … 255 visible ASCII characters: a fresh value per operation, the same on a retry. "
        "A retry answers what the first request answered, with `Idempotent-Replayed: true`."
    ),
)
CUSTOMER_PARAMETER = OpenApiParameter(
    "customer",
    str,
    description="Id or external key of the customer; a service key always names it.",
)
PAGE_PARAMETERS = (
    OpenApiParameter("limit", int, description="Entries a page, 1 … 100 (20)."),
    OpenApiParameter("cursor", str, description="Place in the list, from `next` or `previous`."),
)


class ProblemSerializer(serializers.Serializer[Any]):
    """A problem of RFC 9457; more members stand beside these, by code."""

    type = serializers.CharField(help_text="Address of the page that explains the code.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField()
    detail = serializers.CharField()
    request_id = serializers.CharField()


def operation(  # noqa: PLR0913 - each part of an operation's description is named where it is used
    *,
    operation_id: str,
    tag: str,
    summary: str,
    description: str,
    answers: Mapping[int, Answer] | Mapping[tuple[int, str], Answer],
    example: object = None,
    refusals: Sequence[type[DomainError]] = (),
    request: RequestBody | None = None,
    request_example: object = None,
    parameters: Sequence[OpenApiParameter] = (),
    keyed: bool = False,
    public: bool = False,
) -> Callable[[View], View]:
    """Describe an operation in the schema, with an example of its success and each problem.

    A body of several media types is a mapping of them to their schemas, its example likewise.
    """
    kinds = [*refusals, *ALWAYS]
    kinds += BODY if request else ()
    kinds += KEYED if keyed else ()
    kinds += () if public else AUTHENTICATED
    responses: dict[Any, Any] = {
        status: OpenApiResponse(
            response=answer,
            description=summary,
            examples=[] if example is None else [OpenApiExample("success", value=example)],
        )
        for status, answer in answers.items()
    }
    for status, members in sorted(_by_status(kinds).items()):
        responses[(status, problems.MEDIA_TYPE)] = OpenApiResponse(
            response=ProblemSerializer,
            description=", ".join(kind.code for kind in members),
            examples=[_example(kind, status) for kind in members],
        )
    return extend_schema(
        operation_id=operation_id,
        tags=[tag],
        summary=summary,
        description=description,
        request=request,
        responses=responses,
        parameters=[*parameters, *([KEY_PARAMETER] if keyed else [])],
        examples=_request_examples(request, request_example),
        auth=[] if public else None,
    )


def _request_examples(request: RequestBody | None, given: object) -> list[OpenApiExample]:
    if given is None:
        return []
    by_type = (
        given if isinstance(request, Mapping) and isinstance(given, Mapping) else {None: given}
    )
    return [
        OpenApiExample("request", value=value, media_type=media_type, request_only=True)
        for media_type, value in by_type.items()
    ]


def page_of(serializer: SerializerClass) -> serializers.Serializer[Any]:
    """Return the shape of a page of a list."""
    name = serializer.__name__.removesuffix("Serializer")
    return inline_serializer(
        f"{name}Page",
        {
            "results": serializer(many=True),
            "next": serializers.URLField(allow_null=True),
            "previous": serializers.URLField(allow_null=True),
        },
    )


def _by_status(
    kinds: Sequence[type[DomainError]],
) -> dict[int, list[type[DomainError]]]:
    found: dict[int, list[type[DomainError]]] = {}
    for kind in dict.fromkeys(kinds):
        found.setdefault(problems.STATUS_BY_CATEGORY[kind.category], []).append(kind)
    return found


def _example(kind: type[DomainError], status: int) -> OpenApiExample:
    error = kind(kind.example_detail or f"{kind.title}.", facts=kind.example_facts)
    return OpenApiExample(
        kind.code,
        value=problems.document(error, request_id="0d9f6c2b7a1e4c53"),
        response_only=True,
        status_codes=[str(status)],
        media_type=problems.MEDIA_TYPE,
    )


class StrictShape(OpenApiSerializerExtension):  # type: ignore[no-untyped-call] # the library is untyped
    """Say of every input that a field which it does not declare is refused."""

    target_class = "core.api.serializers.StrictSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: str) -> Any:  # noqa: ANN401 - the library's types
        """Return the shape of the serializer, closed where it is read."""
        shape = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)  # noqa: SLF001 - as the library's own extensions do
        return shape | {"additionalProperties": False} if direction == "request" else shape
