"""Page lists by cursors: stable under inserts, at most 100 a page."""

import re
from collections.abc import Sequence
from typing import Any

from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.response import Response

from core import errors

PAGE_MAX = 100
LIMIT = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)


class CursorPages(CursorPagination):
    """Answer `{"results", "next", "previous"}`; `limit` is 1 … 100, 20 by default."""

    page_size = 20
    page_size_query_param = "limit"
    max_page_size = PAGE_MAX
    ordering = "-id"

    def get_page_size(self, request: Any) -> int:  # noqa: ANN401 - DRF's signature
        """Return the size asked for.

        :raises Invalid: for a limit that is not 1 … 100.
        """
        asked = request.query_params.get(self.page_size_query_param)
        if asked is None:
            return self.page_size or PAGE_MAX
        if not (LIMIT.fullmatch(asked) and int(asked) <= PAGE_MAX):
            raise errors.Invalid.at("/limit", code="invalid", detail=f"limit is 1 … {PAGE_MAX}.")
        return int(asked)

    def paginate_queryset(self, queryset: Any, request: Any, view: Any = None) -> list[Any] | None:  # noqa: ANN401 - DRF's signature
        """Return the page.

        :raises Invalid: for a cursor that this list did not give.
        """
        try:
            return super().paginate_queryset(queryset, request, view)
        except NotFound as error:
            detail = "The cursor is not one that this list gave."
            raise errors.Invalid.at("/cursor", code="invalid", detail=detail) from error

    def get_paginated_response(self, data: Sequence[Any]) -> Response:
        """Return the page with the addresses of its neighbours."""
        return Response(
            {"results": data, "next": self.get_next_link(), "previous": self.get_previous_link()}
        )
