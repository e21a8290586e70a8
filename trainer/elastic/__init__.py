"""Machines that come and go: launchers, the coordinator where they meet, its decisions, and the workers of a round."""
