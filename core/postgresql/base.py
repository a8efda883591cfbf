"""Django's backend for PostgreSQL, on a pool that knows the patience of a request.

Django makes the pool's class itself, and offers no setting for another.
"""

from typing import Any

from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base

from core import waiting


class DatabaseWrapper(base.DatabaseWrapper):
    """The backend of all processes; without a pool it is Django's."""

    @property
    def pool(self) -> Any:  # noqa: ANN401 - Django's own type is looser still
        """Return the process's pool of this database, made at the first call; None without one."""
        options = self.settings_dict["OPTIONS"].get("pool")
        if self.alias == NO_DB_ALIAS or not options:
            return None
        own: Any = self  # whose private names the stubs do not know
        pools: dict[str, waiting.PatientPool] = own._connection_pools  # noqa: SLF001 - Django's
        if self.alias not in pools:
            made = waiting.PatientPool(
                kwargs={**self.get_connection_params(), "autocommit": True},
                open=False,  # before the first connection: workers are forked
                configure=own._configure_connection,  # noqa: SLF001 - as above
                **options,
            )
            pools.setdefault(self.alias, made)
        return pools[self.alias]
