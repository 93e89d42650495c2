"""The figures of the book: its style, what chapters share, and what one chapter draws."""
