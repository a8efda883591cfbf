"""Book courts, coaches, equipment and classes: capacity and entitlement in one transaction."""
