"""Near hits: kept answers for questions asked in other words. Off unless switched on; guards first, then experience."""
