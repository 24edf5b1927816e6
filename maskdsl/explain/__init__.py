"""The recurrence and the costs of a spec, for people."""
