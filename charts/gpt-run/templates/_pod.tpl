{{/* Parts of pods: identity, environment, volumes. */}}

{{/* Fields that every pod has. Takes a dict: root, selector (labels of its node), tolerations. */}}
{{- define "gpt-run.podBase" -}}
{{- $values := .root.Values -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- with $values.security.runAsUser }}
  runAsUser: {{ . | int64 }}
  {{- end }}
  {{- with $values.security.runAsGroup }}
  runAsGroup: {{ . | int64 }}
  {{- end }}
  {{- with $values.security.fsGroup }}
  fsGroup: {{ . | int64 }}
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- with .selector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The same for the coordinator, and for what stands in for it. */}}
{{- define "gpt-run.coordinatorPodBase" -}}
{{- $coordinator := .Values.coordinator -}}
{{ include "gpt-run.podBase" (dict "root" . "selector" $coordinator.nodeSelector "tolerations" $coordinator.tolerations) }}
{{- with $coordinator.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* Fields that every container has. */}}
{{- define "gpt-run.containerBase" -}}
image: {{ include "gpt-run.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* Environment of a container that reaches the store; `env:` lists of the caller follow it. */}}
{{- define "gpt-run.env" -}}
- name: GPTRUN_LOG
  value: json
# Metrics name the node, as the cluster's own exporters do.
- name: GPTRUN_NODE
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
# Who the operator looks for in /status, where the nodes' network gives the pod its node's host name.
- name: GPTRUN_POD
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: XDG_CACHE_HOME
  value: /cache
- name: TORCHINDUCTOR_CACHE_DIR
  value: /cache/inductor
- name: TRITON_CACHE_DIR
  value: /cache/triton
{{- with .Values.store.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The store's credentials as `envFrom` items. */}}
{{- define "gpt-run.credentials" -}}
{{- if and .Values.store.secretName (not .Values.store.secretMountPath) }}
- secretRef:
    name: {{ .Values.store.secretName }}
{{- end }}
{{- end }}

{{/* Mounts of a container that reaches the store. */}}
{{- define "gpt-run.mounts" -}}
# By subPath, so that a pod keeps the file that it began with.
- name: run
  mountPath: /etc/gpt-run/run.yaml
  subPath: run.yaml
  readOnly: true
- name: tmp
  mountPath: /tmp
- name: cache
  mountPath: /cache
{{- if .Values.store.volume.claimName }}
- name: store
  mountPath: {{ .Values.store.volume.mountPath }}
{{- end }}
{{- if and .Values.store.secretName .Values.store.secretMountPath }}
- name: credentials
  mountPath: {{ .Values.store.secretMountPath }}
  readOnly: true
{{- end }}
{{- end }}

{{/* Volumes of a pod that reaches the store. Takes (list . CONFIGMAP). */}}
{{- define "gpt-run.volumes" -}}
{{- $root := index . 0 -}}
- name: run
  configMap:
    name: {{ index . 1 }}
- name: tmp
  emptyDir: {}
- name: cache
  emptyDir:
    sizeLimit: {{ $root.Values.workers.ephemeralStorage }}
{{- if $root.Values.store.volume.claimName }}
- name: store
  persistentVolumeClaim:
    claimName: {{ $root.Values.store.volume.claimName }}
{{- end }}
{{- if and $root.Values.store.secretName $root.Values.store.secretMountPath }}
- name: credentials
  secret:
    secretName: {{ $root.Values.store.secretName }}
{{- end }}
{{- end }}
