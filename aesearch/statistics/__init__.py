"""Statistics of settings of which a few seeds are known: functions on arrays."""
