"""Hold the catalog and the life of subscriptions."""
