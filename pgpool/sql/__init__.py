"""What a statement says, from its text alone: the only room that knows SQL and sqlglot."""
