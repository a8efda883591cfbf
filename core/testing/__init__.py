"""Start what tests need and stop it again."""
