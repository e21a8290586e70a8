{{/* Rules of files/rules, for one run or for all. Kept in charts/gpt-platform; `make generate` copies it to charts/gpt-run. */}}

{{/*
The groups of a file. Takes a dict: `text`; `run`, matchers in PromQL; `installed`, a condition in PromQL or nothing;
`scale`, by which every duration is multiplied, those in expressions included, so that they fit each other.
*/}}
{{- define "gpt-run.rules" -}}
{{- $text := .text -}}
{{- $text = regexReplaceAll "(?m)^#.*\n" $text "" | replace "\n\n" "\n" -}}
{{- $text = ternary (replace "<installed>" .installed $text) (regexReplaceAll "\n *<installed>" $text "") (ne .installed "") -}}
{{- $text = replace "<run>" .run $text -}}
{{- $seconds := dict "s" 1 "m" 60 "h" 3600 "d" 86400 -}}
{{- range $found := regexFindAll "<(seconds )?[0-9]+[smhd]>" $text -1 | uniq -}}
{{- $duration := regexFind "[0-9]+[smhd]" $found -}}
{{- $number := regexFind "[0-9]+" $duration | int -}}
{{- $length := mul $number (index $seconds (regexFind "[smhd]$" $duration)) -}}
{{- if contains "seconds" $found -}}
{{- $text = replace $found (mulf $length $.scale | toString) $text -}}
{{- else if eq (float64 $.scale) 1.0 -}}
{{- $text = replace $found $duration $text -}}
{{- else -}}
{{- $text = replace $found (printf "%dms" (max 1 (round (mulf $length 1000 $.scale) 0 | int))) $text -}}
{{- end -}}
{{- end -}}
{{- $text | trim -}}
{{- end }}
