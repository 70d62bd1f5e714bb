"""From incidents to messages that people act on.

policy      what an operator may decide, as a file, and what follows from it (pure)
lifecycle   who is notified of a stock-out, when, and why not (pure); stage: one partition of it
message     what a message says, to whom, in how many segments
delivery    from a decided message to one that arrived: attempts, receipts, retries, fallback
senders     console, file, Twilio, SMPP, HTTP gateways, channels; the table of routes
answers     what comes back from the phones
"""
