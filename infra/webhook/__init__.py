"""Pages and endpoints over HTTP: routes, forms, headers. What they say and do is elsewhere.

http           what all of them share: limits, headers, a log without numbers, errors as answers
twilio         what Twilio calls: statuses and replies, by signature
answer_page    the page on a wholesaler's phone, by signed link
kafka_answers  answers on their way to Kafka
"""
