"""Share a customer of the small catalog, and his till."""

import pytest

from core.models import Customer
from tests import factories, till


@pytest.fixture
def customer() -> Customer:
    till.make_catalog()
    return factories.make_customer(at=till.STARTED)


@pytest.fixture(name="till")
def till_of_customer(customer) -> till.Till:
    return till.Till(customer)
