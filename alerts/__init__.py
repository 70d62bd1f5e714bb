"""From incidents to messages: grouping policy (pure), templates, senders."""
