"""From incidents to messages that people act on.

grouping    which incidents go into one message, and when (pure)
message     what it says (pure; wording in templates/)
dispatch    whom to tell, what is too old: groups in, records out
delivery    one message on its way: record, attempt, send, look up, try again
receipts    what was sent, across crashes; numbers: who takes no messages
senders/    console, file, Twilio
"""
