package dashboards

import (
	"bytes"
	"encoding/json"
)

// UID is by which Grafana knows the dashboard, also after its title has changed.
func (d *Dashboard) UID() string { return "millrace-" + d.Name }

// Source is the uid of the Prometheus of ../grafana/provisioning/datasources.
const Source = "prometheus"

// Panels stand three in a row of Grafana's 24 columns.
const (
	columns = 3
	width   = 24 / columns
	height  = 8
)

// object is a JSON object with few enough fields to be written in place.
type object map[string]any

// JSON is the dashboard as Grafana's provisioning reads it.
func (d *Dashboard) JSON() ([]byte, error) {
	panels := make([]object, len(d.Panels))
	for i := range d.Panels {
		panels[i] = d.Panels[i].json(i)
	}
	variables := make([]object, len(d.Variables))
	for i, v := range d.Variables {
		variables[i] = v.json()
	}
	var text bytes.Buffer
	to := json.NewEncoder(&text)
	to.SetEscapeHTML(false)
	to.SetIndent("", "  ")
	err := to.Encode(object{
		"uid": d.UID(), "title": "Millrace / " + d.Title, "description": d.About, "tags": []string{"millrace"},
		"schemaVersion": 39, "version": 1, "editable": false, "graphTooltip": 1, "refresh": "10s", "timezone": "browser",
		"time":       object{"from": "now-30m", "to": "now"},
		"templating": object{"list": variables},
		"links": []object{{
			"type": "dashboards", "title": "Millrace", "tags": []string{"millrace"}, "asDropdown": true, "includeVars": true, "keepTime": true,
		}},
		"panels": panels,
	})
	return text.Bytes(), err
}

func (p *Panel) json(n int) object {
	targets := make([]object, len(p.Queries))
	for i, q := range p.Queries {
		targets[i] = object{
			"refId": string(rune('A' + i)), "datasource": source(), "expr": q.Expr, "legendFormat": q.Legend, "range": true, "exemplar": true,
		}
	}
	defaults := object{"unit": string(p.Unit), "min": 0}
	options := object{
		"legend":  object{"displayMode": "list", "placement": "bottom", "showLegend": true},
		"tooltip": object{"mode": "multi", "sort": "desc"},
	}
	switch p.Kind {
	case Lines:
		defaults["custom"] = object{"lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "spanNulls": false}
	case States:
		defaults["color"] = object{"mode": "thresholds"}
		defaults["thresholds"] = object{"mode": "absolute", "steps": []object{
			{"color": "transparent", "value": nil}, {"color": "orange", "value": 1},
		}}
		options = object{"mergeValues": true, "showValue": "never", "rowHeight": 0.8, "legend": object{"showLegend": false}}
	case Values:
		options = object{
			"reduceOptions": object{"calcs": []string{"lastNotNull"}}, "textMode": "value_and_name", "colorMode": "none", "graphMode": "area",
		}
	}
	return object{
		"id": n + 1, "type": string(p.Kind), "title": p.Title, "description": p.About, "datasource": source(),
		"gridPos":     object{"x": n % columns * width, "y": n / columns * height, "w": width, "h": height},
		"fieldConfig": object{"defaults": defaults, "overrides": []object{}},
		"options":     options,
		"targets":     targets,
	}
}

func (v Variable) json() object {
	return object{
		"name": v.Name, "label": v.Label, "type": "query", "datasource": source(),
		"query":      object{"query": "label_values(" + v.Metric + ", " + v.Name + ")", "refId": v.Name},
		"includeAll": true, "allValue": ".*", "multi": true, "refresh": 2, "sort": 1,
		"current": object{"text": "All", "value": "$__all"},
	}
}

func source() object { return object{"type": "prometheus", "uid": Source} }
