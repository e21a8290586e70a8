{{/* Values that contradict each other end the rendering, in words. What a run file may say is RunConfig's alone. */}}

{{- define "gpt-run.checks" -}}
{{- include "gpt-run.checkName" . }}
{{- include "gpt-run.checkStore" . }}
{{- include "gpt-run.checkWorkers" . }}
{{- include "gpt-run.checkScheduling" . }}
{{- include "gpt-run.checkJobs" . }}
{{- include "gpt-run.checkMonitoring" . }}
{{- end }}

{{- define "gpt-run.checkName" -}}
{{- $limit := 40 -}}
{{- range list (list "the release name" .Release.Name) (list "run.name" (include "gpt-run.runName" .)) }}
{{- $key := first . }}
{{- $name := last . }}
{{- if gt (len $name) $limit }}
{{- fail (printf "%s: %q has %d characters; names and labels of pods and services are made from it, so %d is the limit" $key $name (len $name) $limit) }}
{{- end }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) }}
{{- fail (printf "%s: %q must begin with a letter and hold lower-case letters, digits and `-` only" $key $name) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "gpt-run.checkStore" -}}
{{- $store := .Values.store -}}
{{- if not $store.url }}
{{- fail "store.url: empty; say where checkpoints go, such as --set store.url=s3://BUCKET/runs" }}
{{- end }}
{{- with (.Values.run.checkpoint | default dict).store }}
{{- if ne . $store.url }}
{{- fail (printf "run.checkpoint.store: %q, and store.url is %q; leave the first out" . $store.url) }}
{{- end }}
{{- end }}
{{- if not (contains "://" $store.url) }}
{{- if not $store.volume.claimName }}
{{- fail (printf "store.url: %q is a folder, which is lost with its pod; give a bucket's URL, or a volume in store.volume.claimName" $store.url) }}
{{- end }}
{{- $mount := printf "%s/" (trimSuffix "/" $store.volume.mountPath) }}
{{- if not (hasPrefix $mount (printf "%s/" $store.url)) }}
{{- fail (printf "store.url: %q does not lie below store.volume.mountPath %q" $store.url $store.volume.mountPath) }}
{{- end }}
{{- end }}
{{- if and $store.serviceAccountName $store.serviceAccountAnnotations }}
{{- fail (printf "store.serviceAccountAnnotations: service account %q (store.serviceAccountName) is not the chart's; annotate it yourself and leave one of the two out" $store.serviceAccountName) }}
{{- end }}
{{- if and $store.secretMountPath (not $store.secretName) }}
{{- fail "store.secretMountPath: no Secret to mount; name it in store.secretName" }}
{{- end }}
{{- end }}

{{- define "gpt-run.checkWorkers" -}}
{{- $workers := .Values.workers -}}
{{- if gt (int $workers.min) (int $workers.max) }}
{{- fail (printf "workers.min: %d is more than workers.max %d" (int $workers.min) (int $workers.max)) }}
{{- end }}
{{- if or (lt (int $workers.replicas) (int $workers.min)) (gt (int $workers.replicas) (int $workers.max)) }}
{{- fail (printf "workers.replicas: %d is not between workers.min %d and workers.max %d" (int $workers.replicas) (int $workers.min) (int $workers.max)) }}
{{- end }}
{{- range $kind := list "requests" "limits" }}
{{- if hasKey (index $workers.resources $kind | default dict) $.Values.gpu.resource }}
{{- fail (printf "workers.resources.%s: holds %s, which gpu.perWorker decides; leave it out" $kind $.Values.gpu.resource) }}
{{- end }}
{{- end }}
{{- if and .Values.gpu.product (not .Values.gpu.perWorker) }}
{{- fail (printf "gpu.product: %q, and gpu.perWorker is null; a run on CPUs needs no product" .Values.gpu.product) }}
{{- end }}
{{- with (.Values.run.elastic | default dict).grace_seconds }}
{{- $most := include "gpt-run.graceSeconds" $ | int }}
{{- if gt (float64 .) (float64 $most) }}
{{- fail (printf "run.elastic.grace_seconds: %v; lifecycle.gracePeriodSeconds %d leaves workers %d s at most, %s s are the launcher's; raise the one or lower the other" . (int $.Values.lifecycle.gracePeriodSeconds) $most (include "gpt-run.launcherSeconds" $)) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "gpt-run.checkScheduling" -}}
{{- if and .Values.scheduling.gang (not .Values.scheduling.schedulerName) }}
{{- fail "scheduling.gang: needs a gang scheduler; name it in scheduling.schedulerName" }}
{{- end }}
{{- if and .Values.policy.enabled .Values.policy.capacity.enabled .Values.scheduling.queueName }}
{{- fail (printf "policy.capacity.enabled: Kueue (scheduling.queueName %q) decides how much room the run has; leave one of the two out" .Values.scheduling.queueName) }}
{{- end }}
{{- if and .Values.network.hostNetwork .Values.network.policy.enabled }}
{{- fail "network.policy.enabled: pods on the nodes' network have no policy, and it would cut them off from the coordinator; set it to false with network.hostNetwork" }}
{{- end }}
{{- end }}

{{- define "gpt-run.checkJobs" -}}
{{- range $name := list "tokenizer" "prepare" }}
{{- $job := index $.Values.jobs $name }}
{{- if $job.enabled }}
{{- $mount := printf "%s/" (trimSuffix "/" $.Values.store.volume.mountPath) }}
{{- if not (and $.Values.store.volume.claimName (hasPrefix $mount (printf "%s/" $job.output))) }}
{{- fail (printf "jobs.%s.output: %q is lost with its pod; write below store.volume.mountPath %q and name the volume in store.volume.claimName" $name $job.output $.Values.store.volume.mountPath) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "gpt-run.checkMonitoring" -}}
{{- $dashboards := .Values.monitoring.dashboards -}}
{{- if and $dashboards.enabled (not $dashboards.labels) }}
{{- fail "monitoring.dashboards.labels: empty; Grafana's sidecar finds ConfigMaps by a label, such as grafana_dashboard: \"1\"" }}
{{- end }}
{{- end }}
