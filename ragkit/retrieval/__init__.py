"""From files to an index, and from a query to passages."""
