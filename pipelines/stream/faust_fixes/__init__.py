"""What repairs Faust and aiokafka, and nothing else: not the design."""
