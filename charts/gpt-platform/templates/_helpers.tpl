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

{{/* By which the operator's pods, and its Service, are found. */}}
{{- define "gpt-platform.operatorSelector" -}}
app.kubernetes.io/name: gpt-platform
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "gpt-platform.operatorImage" -}}
{{- $image := .Values.operator.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* Name of the operator's account. */}}
{{- define "gpt-platform.serviceAccountName" -}}
{{ .Values.operator.serviceAccount.name | default (printf "%s-operator" .Release.Name) }}
{{- end }}

{{/* What the operator may do in the namespaces of runs; nodes belong to none. */}}
{{- define "gpt-platform.operatorRules" -}}
- apiGroups: [gptrun.io]
  resources: [trainingruns]
  verbs: [get, list, watch]
- apiGroups: [gptrun.io]
  resources: [trainingruns/status]
  verbs: [patch]
- apiGroups: [kubeflow.org]
  resources: [pytorchjobs]
  verbs: [list, watch, patch, delete]
- apiGroups: [ray.io]
  resources: [rayjobs]
  verbs: [list, watch, patch, delete]
# KubeRay passes no change of a RayJob's size on to its cluster.
- apiGroups: [ray.io]
  resources: [rayclusters]
  verbs: [patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}

{{/* A quantity as text: a number in a values file would be printed as 1e+06. */}}
{{- define "gpt-platform.quantity" -}}
{{- if kindIs "float64" . -}}
{{ if eq . (floor .) }}{{ . | int64 | toString | quote }}{{ else }}{{ . | toString | quote }}{{ end }}
{{- else -}}
{{ . | toString | quote }}
{{- end -}}
{{- end }}
