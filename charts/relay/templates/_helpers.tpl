{{- define "relay.fullname" -}}
{{- if contains "relay" .Release.Name -}}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{- else -}}{{ printf "%s-relay" .Release.Name | trunc 50 | trimSuffix "-" }}{{- end -}}
{{- end -}}

{{- define "relay.operator" -}}{{ include "relay.fullname" . }}-operator{{- end -}}
{{- define "relay.dataplane" -}}{{ include "relay.fullname" . }}-dataplane{{- end -}}
{{- define "relay.operator.account" -}}{{ .Values.operator.serviceAccount.name | default (include "relay.operator" .) }}{{- end -}}
{{- define "relay.dataplane.account" -}}{{ .Values.dataPlane.serviceAccount.name | default (include "relay.dataplane" .) }}{{- end -}}

{{- /* What identifies pods and never changes between versions. Call with the chart's root and the component's name. */ -}}
{{- define "relay.selector" -}}
app.kubernetes.io/name: {{ printf "relay-%s" .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "relay.labels" -}}
{{ include "relay.selector" . }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: relay
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* The labels of pods say nothing of the chart's version, so that a new chart alone restarts nothing. */ -}}
{{- define "relay.podLabels" -}}
{{ include "relay.selector" . }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: relay
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "relay.image" -}}
{{- $image := index .root.Values.image .of -}}
{{- $name := $image.name -}}
{{- with .root.Values.image.registry }}{{ $name = printf "%s/%s" . $name }}{{ end -}}
{{- if $image.digest -}}{{ $name }}@{{ $image.digest }}{{- else -}}{{ $name }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}{{- end -}}
{{- end -}}

{{- define "relay.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "relay.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* The namespaces that are watched, as JSON: the release's and the catalog's are always among them; ["*"] stands for all. */ -}}
{{- define "relay.watched" -}}
{{- if has "*" .Values.watchNamespaces -}}
["*"]
{{- else -}}
{{- concat .Values.watchNamespaces (list .Release.Namespace (.Values.catalogNamespace | default .Release.Namespace)) | uniq | sortAlpha | toJson -}}
{{- end -}}
{{- end -}}

{{- define "relay.redis.url" -}}
{{- if .Values.redis.url -}}{{ .Values.redis.url }}{{- else if .Values.redis.bundled.enabled -}}redis://{{ include "relay.fullname" . }}-redis.{{ .Release.Namespace }}.svc:6379{{- end -}}
{{- end -}}

{{- define "relay.pull" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "relay.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "relay.dns" -}}
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- end -}}

{{- define "relay.scrapers" -}}
{{- if .Values.networkPolicy.scrapers -}}
{{ toYaml .Values.networkPolicy.scrapers }}
{{- else -}}
- namespaceSelector: {}
{{- end -}}
{{- end -}}

{{- /* Pods that have a data plane beside them. */ -}}
{{- define "relay.sidecars" -}}
- namespaceSelector:
    matchLabels: {llmrelay.io/inject: enabled}
  podSelector:
    matchLabels: {llmrelay.io/inject: "true"}
{{- end -}}

{{- /* What `relay ask` needs to be an application: where Relay is, and the file with its key. */ -}}
{{- define "relay.client" -}}
- {name: RELAY_URL, value: {{ printf "%s://%s:%d" (ternary "https" "http" (ne .Values.dataPlane.tls.secretName "")) (include "relay.fullname" .) (int .Values.service.port) | quote }}}
- {name: RELAY_TOKEN_FILE, value: /var/run/relay-key/token}
{{- end -}}

{{- define "relay.sidecar.name" -}}
{{ include "relay.fullname" . }}-sidecar-{{ .Release.Namespace }}
{{- end -}}
