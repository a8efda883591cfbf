"""PostgreSQL as Django knows it, with a pool whose waiting ends with the request's patience."""
