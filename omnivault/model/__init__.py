"""A real language model and texts that people wrote, each from an installed package."""
