"""Grafana dashboards as code: what each panel asks Prometheus, and how it is drawn."""
