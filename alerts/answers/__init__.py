"""What comes back from the phones: delivery statuses, replies by SMS, answers on a page.

reading    what a reply means (pure)
statuses   which status of a message holds (pure)
"""
