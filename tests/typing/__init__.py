"""Read by the type checkers alone: every line must be accepted, or refused where an ignore stands, by both."""
