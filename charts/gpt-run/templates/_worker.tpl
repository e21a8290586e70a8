{{/* The worker pod, which both back-ends share. */}}

{{/* Resources with the GPUs of `gpu.perWorker` and the size of the cache. */}}
{{- define "gpt-run.workerResources" -}}
{{- $added := dict "requests" (dict "ephemeral-storage" .Values.workers.ephemeralStorage) -}}
{{- with .Values.gpu.perWorker -}}
{{- $gpus := dict $.Values.gpu.resource (int .) -}}
{{- $added = merge $added (dict "requests" $gpus "limits" $gpus) -}}
{{- end -}}
{{- merge (deepCopy .Values.workers.resources) $added | toYaml }}
{{- end }}

{{/* The container. Takes (list . NAME [ENV]); what it runs is the caller's. */}}
{{- define "gpt-run.workerContainer" -}}
{{- $root := index . 0 -}}
name: {{ index . 1 }}
{{ include "gpt-run.containerBase" $root }}
env:
  {{- include "gpt-run.env" $root | nindent 2 }}
  {{- range list (index (append . list) 2) $root.Values.network.env $root.Values.workers.env }}
  {{- with . }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- end }}
{{- $credentials := include "gpt-run.credentials" $root }}
{{- if or $credentials $root.Values.workers.envFrom }}
envFrom:
  {{- with $credentials }}
  {{- . | trim | nindent 2 }}
  {{- end }}
  {{- with $root.Values.workers.envFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
resources:
  {{- include "gpt-run.workerResources" $root | nindent 2 }}
volumeMounts:
  {{- include "gpt-run.mounts" $root | nindent 2 }}
  - name: shm
    mountPath: /dev/shm
{{- end }}

{{/* Everything of the pod but its containers. */}}
{{- define "gpt-run.workerPod" -}}
{{- $product := ternary (dict "nvidia.com/gpu.product" .Values.gpu.product) dict (not (empty .Values.gpu.product)) -}}
{{ include "gpt-run.podBase" (dict "root" . "selector" (merge $product .Values.nodePool.selector)
  "tolerations" .Values.nodePool.tolerations) }}
serviceAccountName: {{ include "gpt-run.serviceAccountName" . }}
terminationGracePeriodSeconds: {{ .Values.lifecycle.gracePeriodSeconds | int64 }}
{{- with .Values.nodePool.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodePool.topologySpread }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "gpt-run.selector" (list $ "worker") | nindent 8 }}
{{- end }}
{{- with .Values.nodePool.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.scheduling.schedulerName }}
schedulerName: {{ . }}
{{- end }}
{{- if .Values.network.hostNetwork }}
hostNetwork: true
dnsPolicy: ClusterFirstWithHostNet
{{- end }}
volumes:
  {{- include "gpt-run.volumes" (list . (printf "%s-run" .Release.Name)) | nindent 2 }}
  - name: shm
    emptyDir:
      medium: Memory
      sizeLimit: {{ .Values.workers.shm }}
{{- end }}

{{/* Labels and annotations of the job object. */}}
{{- define "gpt-run.jobMetadata" -}}
name: {{ .Release.Name }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "gpt-run.labels" (list . "worker") | nindent 2 }}
  {{- with .Values.scheduling.queueName }}
  kueue.x-k8s.io/queue-name: {{ . }}
  {{- end }}
  {{- if and .Values.scheduling.gang (eq .Values.backend "rayjob") }}
  ray.io/gang-scheduling-enabled: "true"
  {{- end }}
annotations:
  # Differs from that of a running attempt's file after an upgrade: suspend and resume bring the two together.
  gptrun.io/run-sha256: {{ include "gpt-run.runFile" . | sha256sum | quote }}
  {{- if and .Values.gpu.perWorker .Values.gpu.pricePerHour }}
  gptrun.io/gpu-price-per-hour: {{ printf "%v %s" .Values.gpu.pricePerHour .Values.gpu.currency | quote }}
  {{- end }}
{{- end }}
