"""Share the world of the admin's screens: made once a class, as good as new for each test."""

import copy

import pytest

from core import clock
from tests import factories, staff
from tests.conftest import NOW


@pytest.fixture(scope="class")
def kept_world(kept_rows_of_class) -> staff.World:
    """Make one row of each kind, and the roles of staff."""
    staff.make_roles()
    with clock.overridden(factories.standing(NOW)):
        return staff.world(NOW)


@pytest.fixture
def world(kept_world) -> staff.World:
    """Return the world's rows as they were made, whatever tests before did to them."""
    return staff.World(rows=copy.deepcopy(kept_world.rows))
