"""The tuning service: database, use cases, REST, background loops, dashboard."""
