"""Prices, invoices, payments: what subscriptions cost, to the minor unit."""
