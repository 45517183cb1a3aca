"""A file per question, each with a list ``QUESTIONS``."""
