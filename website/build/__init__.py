"""From a clone to a built book: install the packages, run the chapters, call Sphinx."""
