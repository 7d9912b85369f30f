"""REST v1: routes by resource, problem+json, the guard in front of them and the event stream."""
