"""What the tests say about the numbered statements, on the pages."""
