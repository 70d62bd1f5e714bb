"""From incidents to messages that people act on.

wholesaler_side
            one partition of stock-incidents: openings, closings and answers in, messages out
life        who is told of a stock-out, when, and why not (pure), with
            grouping: which go into one message · casebook: what is remembered
            timing: what is due when · outcome: what follows
policy      what an operator may decide, as a file; rules: what follows from it (pure)
message     what a message says (pure; wording in templates/)
dispatch    whom to tell, what is too old: groups in, records out; managers: by their channels
delivery    one message on its way: record, attempt, send, look up, try again
receipts    what was sent, across crashes; numbers: who takes no messages
senders/    console, file, Twilio
"""
