"""The dashboard: server-rendered pages that are complete without JavaScript and live with it."""
