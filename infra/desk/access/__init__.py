"""Who may see and do what on the desk.

visitor   who asks, and what each role may do
store     users, sessions and the trail, in one SQLite file beside the data
guard     the door: no page without a session, no action without the session's word
pages     logging in and out, one's own password, users, the trail
"""
