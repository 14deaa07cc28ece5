"""Pictures: how they are scaled down, and where they wait to be sent."""
