{{- /* Security contexts as the values have them: by default Pod Security "restricted", and a read-only root. */ -}}

{{- define "luthier.podSecurity" -}}
automountServiceAccountToken: {{ .token | default false }}
enableServiceLinks: false
{{- $pod := .pod }}
{{- with $pod.podSecurityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "luthier.containerSecurity" -}}
{{- .pod.securityContext | toYaml }}
{{- end }}
