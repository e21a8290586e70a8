"""The train loop and what one step needs: optimizer, schedule, state."""
