"""Know the gateways by their keys."""

from billing.gateways import manual
from billing.gateways.port import Gateway

GATEWAYS: dict[str, Gateway] = {manual.KEY: manual.ManualGateway()}


def default() -> Gateway:
    """Return the gateway that first payments are asked through."""
    return GATEWAYS[manual.KEY]
