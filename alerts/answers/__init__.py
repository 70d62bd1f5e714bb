"""What comes back from the phones: delivery statuses, replies by SMS, answers on a page.

reading    what a reply means (pure)
statuses   which status of a message holds (pure)
sent       which message an answer is about
inbox      what came, on disk, until Kafka has it
intake     the way of a reply or status through all of these
links      signed links to the answer page
"""
