"""Wire the engine's apps together; no logic lives here."""
