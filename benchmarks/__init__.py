"""Measure hot paths beside their comparators, and prove that they stayed exact."""
