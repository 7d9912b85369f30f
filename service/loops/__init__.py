"""What the scheduler does again and again: each loop is a class with one ``tick(now)``."""
