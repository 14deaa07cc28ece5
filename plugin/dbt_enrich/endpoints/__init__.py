"""Request and answer of one endpoint of the service: pure text and SQL, no I/O."""
