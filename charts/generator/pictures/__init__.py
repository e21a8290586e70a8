"""Pictures of the dashboards, drawn from what a Prometheus recorded."""
