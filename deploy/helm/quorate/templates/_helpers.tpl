{{- define "quorate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Short, because pods' names, and those of their volumes, are longer. */}}
{{- define "quorate.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "quorate.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "quorate.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "quorate.selector" -}}
app.kubernetes.io/name: {{ include "quorate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "quorate.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "quorate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "quorate.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "quorate.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "quorate.peers" -}}
{{ include "quorate.fullname" . }}-peers
{{- end }}

{{/* What the cluster is called in Prometheus; rules.yaml wants "quorate" in it. */}}
{{- define "quorate.job" -}}
{{- $name := include "quorate.fullname" . }}
{{- ternary $name (printf "quorate-%s" $name) (contains "quorate" $name) }}
{{- end }}

{{/* What follows the name of a pod. */}}
{{- define "quorate.peersDomain" -}}
{{ include "quorate.peers" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{- define "quorate.clients" -}}
{{ include "quorate.fullname" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{- define "quorate.nodeTls" -}}
{{ default (printf "%s-node-tls" (include "quorate.fullname" .)) .Values.tls.node.secret }}
{{- end }}

{{- define "quorate.peerTls" -}}
{{ default (printf "%s-peer-tls" (include "quorate.fullname" .)) .Values.tls.peer.secret }}
{{- end }}

{{- define "quorate.adminToken" -}}
{{ default (printf "%s-admin-token" (include "quorate.fullname" .)) .Values.auth.adminTokenSecret }}
{{- end }}

{{/* What can be told before a node tells it, in a pod that does not start. */}}
{{- define "quorate.check" -}}
{{- if and (not .Values.insecure) (not (and .Values.tls.enabled .Values.auth.enabled)) }}
{{- fail "without tls and auth everybody who reaches a port may read and change everything: enable both, or say insecure: true" }}
{{- end }}
{{- if and .Values.tls.certManager.enabled (not (and .Values.tls.certManager.issuer.name .Values.tls.certManager.peerIssuer.name)) }}
{{- fail "tls.certManager needs two issuers, tls.certManager.issuer.name and tls.certManager.peerIssuer.name" }}
{{- end }}
{{- if and .Values.tls.certManager.enabled (contains "{n}" (printf "%s%s%s%s" .Values.tls.node.cert .Values.tls.node.key .Values.tls.peer.cert .Values.tls.peer.key)) }}
{{- fail "cert-manager makes one certificate for all nodes, so no name of a file under tls may have {n} in it" }}
{{- end }}
{{- end }}

{{/* A probe of one of the paths of the HTTP port. */}}
{{- define "quorate.probe" -}}
{{- $values := .context.Values }}
{{- $scheme := ternary "https" "http" $values.tls.enabled }}
{{- if eq $values.probes.type "exec" }}
exec:
  command:
    - quorate
    - health
    - --http
    - {{ $scheme }}://127.0.0.1:{{ $values.ports.http }}
    {{- if $values.tls.enabled }}
    - --ca-file
    - /etc/quorate/node-tls/{{ $values.tls.node.ca }}
    {{- end }}
    {{- if ne .path "/readyz" }}
    - --live
    {{- end }}
{{- else }}
httpGet:
  path: {{ .path }}
  port: http
  scheme: {{ upper $scheme }}
{{- end }}
{{- end }}
