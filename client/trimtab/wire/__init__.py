"""The API contract: pydantic models of everything that crosses HTTP or stands in a study file."""
