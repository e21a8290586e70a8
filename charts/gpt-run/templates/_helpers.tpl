{{/* Names, labels, image: what every object has. */}}

{{/* Name of the run: `run.name`, or the release's. */}}
{{- define "gpt-run.runName" -}}
{{ .Values.run.name | default .Release.Name }}
{{- end }}

{{/* Name of the service account of pods that reach the store. */}}
{{- define "gpt-run.serviceAccountName" -}}
{{ .Values.store.serviceAccountName | default .Release.Name }}
{{- end }}

{{/* The same for hooks, which run before the release's own account exists. */}}
{{- define "gpt-run.hookServiceAccountName" -}}
{{- if .Values.store.serviceAccountName -}}
{{ .Values.store.serviceAccountName }}
{{- else if .Values.store.serviceAccountAnnotations -}}
{{ .Release.Name }}-hooks
{{- else -}}
default
{{- end }}
{{- end }}

{{- define "gpt-run.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* By which pods of one component are found. Takes (list . CLASS), the class being gptrun.io/component. */}}
{{- define "gpt-run.selector" -}}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
gptrun.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of an object or pod. Takes (list . CLASS NAME): NAME is finer than the class and defaults to it. */}}
{{- define "gpt-run.labels" -}}
{{- $root := index . 0 -}}
{{ include "gpt-run.selector" . }}
gptrun.io/run: {{ include "gpt-run.runName" $root }}
app.kubernetes.io/name: gpt-run
app.kubernetes.io/version: {{ $root.Values.image.tag | default $root.Chart.AppVersion | trunc 63 | trimAll "-._" | quote }}
app.kubernetes.io/component: {{ last . }}
app.kubernetes.io/part-of: gpt-run
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- end }}

{{/* Labels of a pod that reaches the store. */}}
{{- define "gpt-run.storePodLabels" -}}
{{ include "gpt-run.labels" . }}
{{- with (index . 0).Values.store.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Ranks of one worker pod. */}}
{{- define "gpt-run.slots" -}}
{{ .Values.gpu.perWorker | default 1 }}
{{- end }}

{{/* Most ranks that the run may have. */}}
{{- define "gpt-run.maxRanks" -}}
{{ mul .Values.workers.max (include "gpt-run.slots" . | int) }}
{{- end }}

{{/* Folder or URL of the run in the store. */}}
{{- define "gpt-run.runUrl" -}}
{{ trimSuffix "/" .Values.store.url }}/{{ include "gpt-run.runName" . }}
{{- end }}
