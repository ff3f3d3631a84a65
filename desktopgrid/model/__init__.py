"""The grid's words and rules, pure: objects, statuses, rights, configuration."""
