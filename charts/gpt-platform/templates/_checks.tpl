{{/* Values that contradict each other end the rendering, in words. */}}

{{- define "gpt-platform.checkDashboards" -}}
{{- with .Values.dashboards }}
{{- if and .enabled (not .labels) }}
{{- fail "dashboards.labels: empty; Grafana's sidecar finds ConfigMaps by a label, such as grafana_dashboard: \"1\"" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "gpt-platform.checkServiceAccount" -}}
{{- with .Values.operator.serviceAccount }}
{{- if and .create .name }}
{{- fail (printf "operator.serviceAccount.name: %q is for an account that is there; set operator.serviceAccount.create=false, or leave the name out" .name) }}
{{- end }}
{{- if and (not .create) (not .name) }}
{{- fail "operator.serviceAccount.name: empty; name the account to use, or set operator.serviceAccount.create=true" }}
{{- end }}
{{- if and (not .create) .annotations }}
{{- fail (printf "operator.serviceAccount.annotations: account %q is not the chart's; annotate it yourself" .name) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "gpt-platform.checkGuards" -}}
{{- if semverCompare "<1.30-0" .Capabilities.KubeVersion.Version }}
{{- fail (printf "guards.enabled: ValidatingAdmissionPolicy needs Kubernetes 1.30, this is %s; set guards.enabled=false: the operator then sets back what is outside the bounds, but a PyTorchJob scaled to 0 has ended" .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- end }}

{{- define "gpt-platform.checkKueue" -}}
{{- with .Values.kueue }}
{{- if not .flavors }}
{{- fail "kueue.flavors: empty; a ClusterQueue without one admits nothing. Give at least {name: default, quota: {nvidia.com/gpu: N, cpu: N, memory: N}}" }}
{{- end }}
{{- $first := first .flavors }}
{{- $resources := keys $first.quota | sortAlpha | join ", " }}
{{- range .flavors }}
{{- if ne $resources (keys .quota | sortAlpha | join ", ") }}
{{- fail (printf "kueue.flavors: %q has quota of %s, %q of %s; Kueue wants the same resources in all, so give 0 where there is none" $first.name $resources .name (keys .quota | sortAlpha | join ", ")) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
