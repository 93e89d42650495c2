"""Lists of what all pages hold: statements, terms, and the modules of the package."""
