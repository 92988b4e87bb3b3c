// Package oracle computes what a pipeline must publish, naively and on its own: it reads the whole input into memory,
// walks each partition in order and adds every event to every window that still takes it. It shares no code with the
// pipeline, so that an agreement between the two means something. It is slow, exact and meant to be read.
package oracle

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Spec is the little of a pipeline's description that decides its results.
type Spec struct {
	Name       string
	Topics     []string
	Key        []string
	TimeField  string
	TimeUnit   string
	MaxFuture  time.Duration
	MaxPast    time.Duration // 0: none
	MaxJump    time.Duration // 0: none
	MaxKey     int           // bytes of the longest accepted key
	MaxValue   int           // bytes of the longest accepted text of first and last, as published; 0 when the file does not say
	Where      string
	Aggregates []Aggregate
	Windows    []Window
	Rollups    []Rollup
	OutOfOrder time.Duration
	Lateness   time.Duration
}

// Aggregate is one published value.
type Aggregate struct{ Name, Func, Field, Type string }

// Window is a family of windows; all numbers are milliseconds.
type Window struct {
	Name                string
	Size, Slide, Offset int64
}

// ReadSpec reads YAML or JSON. It trusts the file: checking specs is the pipeline's business.
func ReadSpec(data []byte) (*Spec, error) {
	var doc map[string]any
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	event, source := object(doc["event"]), object(doc["source"])
	clock, mark := object(event["time"]), object(doc["watermark"])
	s := &Spec{
		Name: text(doc["name"]), Topics: texts(source["topics"]), Key: texts(event["key"]),
		TimeField: text(clock["field"]), TimeUnit: text(clock["unit"]),
		MaxFuture: time.Hour, MaxKey: 1024, Where: text(doc["where"]),
	}
	var err error
	if n, ok := event["max_key_bytes"].(int); ok {
		s.MaxKey = n
	}
	if n, ok := event["max_value_bytes"].(int); ok {
		s.MaxValue = n
	}
	if v, ok := event["max_future"]; ok {
		s.MaxFuture = 0
		err = duration(v, &s.MaxFuture)
	}
	err = errors.Join(err, duration(event["max_past"], &s.MaxPast), duration(event["max_jump"], &s.MaxJump))
	err = errors.Join(err, duration(mark["out_of_orderness"], &s.OutOfOrder), duration(doc["allowed_lateness"], &s.Lateness))
	list, _ := doc["windows"].([]any)
	for _, item := range list {
		m := object(item)
		var size, slide, offset time.Duration
		err = errors.Join(err, duration(m["size"], &size), duration(m["slide"], &slide), duration(m["offset"], &offset))
		if slide == 0 {
			slide = size
		}
		s.Windows = append(s.Windows, Window{text(m["name"]), size.Milliseconds(), slide.Milliseconds(), offset.Milliseconds()})
	}
	if err != nil {
		return nil, err
	}
	rollups, _ := doc["rollups"].([]any)
	if s.Rollups, err = readRollups(rollups); err != nil {
		return nil, err
	}
	if s.Aggregates, err = aggregates(data); err != nil {
		return nil, err
	}
	if s.Name == "" || len(s.Windows) == 0 || len(s.Key) == 0 || len(s.Aggregates) == 0 {
		return nil, errors.New("spec lacks a name, a key, an aggregate or a window")
	}
	return s, nil
}

// aggregates keeps the order of the file, which a Go map would lose. It takes the mapping people write and the list of
// the canonical JSON.
func aggregates(data []byte) ([]Aggregate, error) {
	var doc struct {
		Aggregates yaml.Node `yaml:"aggregates"`
	}
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	var out []Aggregate
	switch node := doc.Aggregates; node.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			a := Aggregate{Name: node.Content[i].Value}
			var m map[string]string
			if err := node.Content[i+1].Decode(&m); err != nil {
				return nil, err
			}
			a.Func, a.Field, a.Type = m["func"], m["field"], m["type"]
			out = append(out, a)
		}
	case yaml.SequenceNode:
		for _, item := range node.Content {
			var m map[string]string
			if err := item.Decode(&m); err != nil {
				return nil, err
			}
			out = append(out, Aggregate{m["name"], m["func"], m["field"], m["type"]})
		}
	}
	for i, a := range out {
		if a.Type != "" {
			continue
		}
		switch a.Func {
		case "sum", "avg", "min", "max":
			out[i].Type = "float"
		case "first", "last":
			out[i].Type = "any"
		}
	}
	return out, nil
}

func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func text(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

func texts(v any) []string {
	list, ok := v.([]any)
	if !ok {
		if v == nil {
			return nil
		}
		return []string{text(v)}
	}
	out := make([]string, len(list))
	for i := range list {
		out[i] = text(list[i])
	}
	return out
}

func duration(v any, d *time.Duration) error {
	if v == nil || text(v) == "0" {
		return nil
	}
	head, tail, days := strings.Cut(text(v), "d") // 2d12h
	if !days {
		head, tail = "0", text(v)
	}
	n, err := strconv.Atoi(head)
	if tail != "" && err == nil {
		*d, err = time.ParseDuration(tail)
	}
	*d += time.Duration(n) * 24 * time.Hour
	return err
}

// unitNanos says how many nanoseconds one unit of the event time has.
func unitNanos(unit string) (*big.Int, error) {
	n, ok := map[string]int64{"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1}[strings.ToLower(unit)]
	if !ok {
		return nil, fmt.Errorf("time unit %q is not s, ms, us, ns or rfc3339", unit)
	}
	return big.NewInt(n), nil
}
