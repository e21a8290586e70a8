{{/* The run file and what else is mounted at /etc/gpt-run. */}}

{{/* Seconds of a worker's pod that its launcher keeps for itself, after its workers were killed. */}}
{{- define "gpt-run.launcherSeconds" -}}15{{- end }}

{{/* Most seconds that workers may take to save and go. */}}
{{- define "gpt-run.graceSeconds" -}}
{{ sub .Values.lifecycle.gracePeriodSeconds (include "gpt-run.launcherSeconds" . | int) }}
{{- end }}

{{/* The `run:` block with the keys that belong to the chart, and the price of a GPU unless the block has its own. */}}
{{- define "gpt-run.runFile" -}}
{{- $run := deepCopy .Values.run -}}
{{- $elastic := $run.elastic | default dict -}}
{{- if not $elastic.grace_seconds -}}
{{- $_ := set $elastic "grace_seconds" (include "gpt-run.graceSeconds" . | int64) -}}
{{- end -}}
{{- $checkpoint := set ($run.checkpoint | default dict) "store" .Values.store.url -}}
{{- $cost := $run.cost | default dict -}}
{{- if and .Values.gpu.pricePerHour (not $cost.price_per_gpu_hour) -}}
{{- $_ := set $cost "price_per_gpu_hour" .Values.gpu.pricePerHour -}}
{{- $_ := set $cost "currency" .Values.gpu.currency -}}
{{- $_ := set $run "cost" $cost -}}
{{- end -}}
{{- merge (dict "name" (include "gpt-run.runName" .) "checkpoint" $checkpoint "elastic" $elastic) $run | toYaml }}
{{- end }}

{{/* Data of the ConfigMap. Takes (list . JOB...): the jobs whose pipelines are written out. */}}
{{- define "gpt-run.configData" -}}
{{- $root := index . 0 -}}
run.yaml: |
  {{- include "gpt-run.runFile" $root | nindent 2 }}
{{- range $name := rest . }}
{{- $job := index $root.Values.jobs $name }}
{{- if and $job.enabled $job.inlinePipeline }}
{{ $name }}.yaml: |
  {{- toYaml $job.inlinePipeline | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* What a data command is told: a pipeline's name, or its file. Takes (list . JOB). */}}
{{- define "gpt-run.pipeline" -}}
{{- $job := index (index . 0).Values.jobs (index . 1) -}}
{{- if $job.inlinePipeline -}}
/etc/gpt-run/{{ index . 1 }}.yaml
{{- else -}}
{{ $job.pipeline }}
{{- end }}
{{- end }}
