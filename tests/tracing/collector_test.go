package tracing

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// spanStore takes spans over OTLP, as Tempo and Jaeger do, and keeps them.
type spanStore struct {
	collector.UnimplementedTraceServiceServer
	addr string

	mu    sync.Mutex
	spans map[string]*span // by trace and span id
}

type span struct {
	*otlp.Span
	service string
	trace   string
	id      string
	parent  string
}

func startStore(t *testing.T) *spanStore {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &spanStore{addr: listener.Addr().String(), spans: make(map[string]*span)}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, s)
	go func() { _ = server.Serve(listener) }() // ends with Stop
	t.Cleanup(server.Stop)
	return s
}

// env has programs export to the store, at once and all that they make.
func (s *spanStore) env() []string {
	return []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + s.addr, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_BSP_SCHEDULE_DELAY=100",
		"OTEL_TRACES_SAMPLER=parentbased_always_on", "OTEL_METRICS_EXPORTER=none",
	}
}

// Export implements the collector's service.
func (s *spanStore) Export(_ context.Context, in *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range in.GetResourceSpans() {
		service := textOf(of.GetResource().GetAttributes(), "service.name")
		for _, scope := range of.GetScopeSpans() {
			for _, one := range scope.GetSpans() {
				kept := &span{
					Span: one, service: service, trace: hex.EncodeToString(one.GetTraceId()),
					id: hex.EncodeToString(one.GetSpanId()), parent: hex.EncodeToString(one.GetParentSpanId()),
				}
				s.spans[kept.trace+kept.id] = kept
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func textOf(attributes []*common.KeyValue, key string) string {
	for _, a := range attributes {
		if a.GetKey() != key {
			continue
		}
		switch v := a.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			return v.StringValue
		case *common.AnyValue_IntValue:
			return fmt.Sprint(v.IntValue)
		case *common.AnyValue_BoolValue:
			return fmt.Sprint(v.BoolValue)
		}
	}
	return ""
}

func (s *span) attribute(key string) string { return textOf(s.GetAttributes(), key) }

func (s *span) start() time.Time { return time.Unix(0, int64(s.GetStartTimeUnixNano())) }
func (s *span) end() time.Time   { return time.Unix(0, int64(s.GetEndTimeUnixNano())) }

// of returns the spans of a trace, by their start.
func (s *spanStore) of(trace string) []*span {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Collect(maps.Values(s.spans))
	all = slices.DeleteFunc(all, func(o *span) bool { return o.trace != trace })
	slices.SortFunc(all, func(a, b *span) int {
		return strings.Compare(fmt.Sprint(a.GetStartTimeUnixNano(), a.id), fmt.Sprint(b.GetStartTimeUnixNano(), b.id))
	})
	return all
}

// find returns the spans of a name, by their start.
func (s *spanStore) find(name string) []*span {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*span
	for _, one := range s.spans {
		if one.GetName() == name {
			all = append(all, one)
		}
	}
	slices.SortFunc(all, func(a, b *span) int { return a.start().Compare(b.start()) })
	return all
}

// names counts the spans of a trace by name.
func (s *spanStore) names(trace string) map[string]int {
	n := make(map[string]int)
	for _, one := range s.of(trace) {
		n[one.GetName()]++
	}
	return n
}

// tree draws a trace: a line for every span, below the one that it belongs to.
func (s *spanStore) tree(trace string) string {
	all := s.of(trace)
	known := make(map[string]bool)
	below := make(map[string][]*span)
	for _, one := range all {
		known[one.id] = true
	}
	for _, one := range all {
		parent := one.parent
		if !known[parent] {
			parent = ""
		}
		below[parent] = append(below[parent], one)
	}
	var out strings.Builder
	var draw func(parent string, depth int)
	draw = func(parent string, depth int) {
		for _, one := range below[parent] {
			name := strings.Repeat("  ", depth) + one.GetName()
			fmt.Fprintf(&out, "%-44s %-15s +%8.1f ms %9.1f ms  %s\n", name, one.service, ms(one.start().Sub(all[0].start())),
				ms(one.end().Sub(one.start())), one.about())
			draw(one.id, depth+1)
		}
	}
	draw("", 0)
	return strings.ReplaceAll(out.String(), "  \n", "\n")
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// about is what the tree shows of a span's attributes.
func (s *span) about() string {
	var parts []string
	for _, key := range []string{
		"messaging.kafka.offset", "millrace.outcome", "millrace.slice", "millrace.commit", "millrace.reason", "millrace.revision",
		"millrace.keys", "millrace.lane", "millrace.recovery.by", "millrace.lane.state", "temporalWorkflowID",
	} {
		if text := s.attribute(key); text != "" && len(text) < 60 {
			parts = append(parts, key[strings.LastIndex(key, ".")+1:]+"="+text)
		}
	}
	if n := len(s.GetLinks()); n > 0 {
		parts = append(parts, fmt.Sprintf("links=%d", n))
	}
	return strings.Join(parts, " ")
}
