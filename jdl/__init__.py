"""Job description languages: readers, writers and templates."""
