{{/* Values that contradict each other end the rendering, in words. */}}

{{- define "gpt-platform.checkDashboards" -}}
{{- with .Values.dashboards }}
{{- if and .enabled (not .labels) }}
{{- fail "dashboards.labels: empty; Grafana's sidecar finds ConfigMaps by a label, such as grafana_dashboard: \"1\"" }}
{{- end }}
{{- end }}
{{- end }}
