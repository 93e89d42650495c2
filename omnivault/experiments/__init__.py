"""Runs that take too long for a page; what they found is kept in ``data``."""
