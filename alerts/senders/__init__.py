"""Ways to send an SMS, behind one port (`alerts.senders.port`), and the choice among them."""
