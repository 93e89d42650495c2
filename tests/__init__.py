"""The tests: of chapters, of the package and its live figures, of the build and the website."""
