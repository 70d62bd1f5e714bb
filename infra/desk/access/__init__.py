"""Who may see and do what on the desk.

store     users, sessions and the trail, in one SQLite file beside the data
guard     no page without a session, no action without the session's CSRF token
pages     logging in and out, one's own password, users, the trail
"""
