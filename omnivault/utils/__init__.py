"""Small helpers that notebooks import by their full path."""
