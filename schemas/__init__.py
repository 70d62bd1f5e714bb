"""What flows through zerostock: models, columnar codecs, topic names. No I/O lives here."""
