"""The one place that knows SQL: engine, tables, and queries that answer with plain values."""
