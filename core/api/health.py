"""Tell an orchestrator whether the process lives and whether it can serve."""

from django.db import InterfaceError, OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse

from core import errors
from core.api import problems


@problems.safe_only
def livez(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Answer that the process runs; asks nothing else."""
    return JsonResponse({"status": "ok"})


@problems.safe_only
def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200 where the database answers and is migrated, else a 503 problem."""
    try:
        pending = _pending_migrations()
    except (OperationalError, InterfaceError):
        unavailable = errors.Unavailable("The database does not answer.")
        return problems.respond(unavailable, request=request)
    if pending:
        detail = f"{pending} migrations are not applied: run manage.py migrate."
        return problems.respond(errors.Unavailable(detail), request=request)
    return JsonResponse({"status": "ok", "database": connection.vendor})


def _pending_migrations() -> int:
    executor = MigrationExecutor(connection)
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
