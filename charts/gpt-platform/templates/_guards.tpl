{{/* What both guards ask and say: bounds of a job, and messages. CEL; a message is one line. */}}

{{/* Variables: the bounds that a PyTorchJob has. Takes the name by which CEL knows it. */}}
{{- define "gpt-platform.boundsOf" -}}
- name: fewest
  expression: {{ . }}.spec.?elasticPolicy.?minReplicas.orValue(1)
- name: most
  expression: {{ . }}.spec.?elasticPolicy.?maxReplicas.orValue(2147483647)
{{- end }}

{{- define "gpt-platform.within" -}}
(variables.workers > 0 && variables.workers >= variables.fewest && variables.workers <= variables.most)
{{- end }}

{{- define "gpt-platform.refusal" -}}
variables.workers <= 0 ? {{ include "gpt-platform.noWorkers" . }} : {{ include "gpt-platform.outOfBounds" . }}
{{- end }}

{{- define "gpt-platform.suspendIt" -}}
'gpt-run job suspend ' + object.metadata.name + ' -n ' + request.namespace + ', or kubectl patch pytorchjob ' + object.metadata.name + ' -n ' + request.namespace + ' --type=merge -p \'{"spec":{"runPolicy":{"suspend":true}}}\''
{{- end }}

{{- define "gpt-platform.noWorkers" -}}
'0 workers would end run ' + object.metadata.name + ' as Succeeded, for good. To give all its nodes back, suspend it: ' + {{ include "gpt-platform.suspendIt" . }}
{{- end }}

{{- define "gpt-platform.boundsAre" -}}
'run ' + object.metadata.name + ' has ' + string(variables.fewest) + ' to ' + string(variables.most) + ' workers (elasticPolicy), not ' + string(variables.workers) + ': '
{{- end }}

{{- define "gpt-platform.outOfBounds" -}}
{{ include "gpt-platform.boundsAre" . }} + 'choose a number within, or other bounds (workers.min, workers.max of charts/gpt-run)'
{{- end }}

{{/* Of bounds that leave out the workers that there are: helm upgrade keeps a number that was scaled. */}}
{{- define "gpt-platform.scaleFirst" -}}
{{ include "gpt-platform.boundsAre" . }} + 'scale first, then change the bounds again: kubectl scale tr/' + object.metadata.name + ' -n ' + request.namespace + ' --replicas=' + string(variables.workers > variables.most ? variables.most : variables.fewest) + ' (pytorchjob/' + object.metadata.name + ' where it has no TrainingRun)'
{{- end }}
