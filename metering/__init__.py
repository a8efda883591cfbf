"""Decide on usage, count it once and explain every decision."""
