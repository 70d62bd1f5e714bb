"""Pages and endpoints over HTTP: routes, forms, headers. What they say and do is elsewhere.

plumbing    what all of them share: limits, headers, a log without numbers, errors as answers
twilio      what Twilio calls: statuses and replies, by signature
answers     the page on a wholesaler's phone, by signed link
"""
