"""Hold users, customers and what every other app stands on."""
