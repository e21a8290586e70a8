{{/* Pods and Jobs that work beside the training. */}}

{{/* Spec of such a pod. Takes a dict: root, name, command; hook: true where it runs before the release exists; resources,
     restartPolicy, files (more keys of the ConfigMap) and container (more fields of it) where they differ. */}}
{{- define "gpt-run.jobPod" -}}
{{- $root := .root -}}
{{ include "gpt-run.podBase" (dict "root" $root "selector" $root.Values.jobs.nodeSelector "tolerations" $root.Values.jobs.tolerations) }}
serviceAccountName: {{ include (ternary "gpt-run.hookServiceAccountName" "gpt-run.serviceAccountName" (.hook | default false)) $root }}
restartPolicy: {{ .restartPolicy | default "Never" }}
containers:
  - name: {{ .name }}
    {{- include "gpt-run.containerBase" $root | nindent 4 }}
    command:
      {{- toYaml .command | nindent 6 }}
    env:
      {{- include "gpt-run.env" $root | nindent 6 }}
    {{- with include "gpt-run.credentials" $root }}
    envFrom:
      {{- . | trim | nindent 6 }}
    {{- end }}
    {{- with .container }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    resources:
      {{- toYaml (.resources | default $root.Values.jobs.resources) | nindent 6 }}
    volumeMounts:
      {{- include "gpt-run.mounts" $root | nindent 6 }}
      {{- range .files }}
      - name: run
        mountPath: /etc/gpt-run/{{ . }}
        subPath: {{ . }}
        readOnly: true
      {{- end }}
volumes:
  {{- include "gpt-run.volumes" (list $root (printf "%s-%s" $root.Release.Name (ternary "hooks" "run" (.hook | default false)))) | nindent 2 }}
{{- end }}

{{/* Metadata of an object that belongs to such work. Takes (list . NAME). */}}
{{- define "gpt-run.jobObject" -}}
name: {{ (index . 0).Release.Name }}-{{ index . 1 }}
namespace: {{ (index . 0).Release.Namespace }}
labels:
  {{- include "gpt-run.labels" (list (index . 0) "job" (index . 1)) | nindent 2 }}
{{- end }}

{{/* Pod template. Takes the dict of jobPod. */}}
{{- define "gpt-run.jobTemplate" -}}
metadata:
  labels:
    {{- include "gpt-run.storePodLabels" (list .root "job" .name) | nindent 4 }}
spec:
  {{- include "gpt-run.jobPod" . | nindent 2 }}
{{- end }}

{{/* Annotations of what has to be there or be done before GPUs are taken. Takes the weight, which gives the order. */}}
{{- define "gpt-run.hook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
helm.sh/hook-output-log-policy: hook-failed
{{- end }}

{{/* What a Job does when one of its pods ends badly. */}}
{{- define "gpt-run.podFailurePolicy" -}}
podFailurePolicy:
  rules:
    # What the user has to mend does not get better by trying again.
    - action: FailJob
      onExitCodes:
        operator: In
        values: [2]
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
{{- end }}

{{/* A Job that comes before the run. Takes the dict of jobPod with weight and, if it has one, activeDeadlineSeconds. */}}
{{- define "gpt-run.hookJob" -}}
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "gpt-run.jobObject" (list .root .name) | nindent 2 }}
  annotations:
    {{- include "gpt-run.hook" .weight | nindent 4 }}
spec:
  backoffLimit: 3
  {{- include "gpt-run.podFailurePolicy" . | nindent 2 }}
  {{- with .activeDeadlineSeconds }}
  activeDeadlineSeconds: {{ . | int64 }}
  {{- end }}
  template:
    {{- include "gpt-run.jobTemplate" (merge (dict "hook" true) .) | nindent 4 }}
{{- end }}

{{/* Command of the preflight, which asks for as many ranks as the run may ever have. */}}
{{- define "gpt-run.preflight" -}}
[gpt-run, preflight, /etc/gpt-run/run.yaml, --ranks, {{ include "gpt-run.maxRanks" . | quote }}]
{{- end }}
