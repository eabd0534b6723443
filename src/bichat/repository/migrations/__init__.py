"""Every version that the schema has had, and what led from one to the next.  Files in `versions` never change."""
