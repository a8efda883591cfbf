"""Share a customer of the small catalog, and his till."""

import pytest

from core.models import Customer
from tests import factories, till


@pytest.fixture(scope="module")
def kept_catalog(kept_rows) -> None:
    till.make_catalog()


@pytest.fixture
def customer(kept_catalog) -> Customer:
    return factories.make_customer(at=till.STARTED)


@pytest.fixture(name="till")
def till_of_customer(customer) -> till.Till:
    return till.Till(customer)
