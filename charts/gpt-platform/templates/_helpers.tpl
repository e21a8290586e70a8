{{/* Labels, and checks of values that contradict each other. */}}

{{/* Labels of an object. Takes (list . COMPONENT). */}}
{{- define "gpt-platform.labels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: gpt-platform
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/part-of: gpt-run
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- end }}

{{- define "gpt-platform.checkDashboards" -}}
{{- with .Values.monitoring.dashboards }}
{{- if and .enabled (not .labels) }}
{{- fail "monitoring.dashboards.labels: empty; Grafana's sidecar finds ConfigMaps by a label, such as grafana_dashboard: \"1\"" }}
{{- end }}
{{- end }}
{{- end }}
