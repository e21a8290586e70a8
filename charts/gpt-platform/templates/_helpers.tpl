{{/* Labels: what every object has. */}}

{{/* Labels of an object. Takes (list . NAME): the component. */}}
{{- define "gpt-platform.labels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: gpt-platform
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/component: {{ last . }}
app.kubernetes.io/part-of: gpt-run
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- end }}
