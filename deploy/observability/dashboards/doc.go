// Package dashboards is the source of the Grafana dashboards in ../grafana/dashboards: the panels with their queries, and how they become
// Grafana's JSON. Tests write the files, ask a Prometheus every query, and have the pictures of the documentation drawn from its answers.
package dashboards
