package traces

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

const sent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestSampledContextsAreTold(t *testing.T) {
	for _, c := range []struct {
		name, text     string
		sampled, valid bool
	}{
		{"sampled", sent, true, true},
		{"not sampled", sent[:54] + "0", false, true},
		{"random and sampled", sent[:54] + "3", true, true},
		{"cut off", sent[:54], false, false},
		{"empty", "", false, false},
		{"another text", "0123456789012345678901234567890123456789012345678901231", true, false},
		{"no span id", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.sampled, IsSampled([]byte(c.text)))
			sc, ok := Parse(c.text)
			require.Equal(t, c.valid, ok)
			if ok {
				require.Equal(t, c.sampled, sc.IsSampled())
				require.Equal(t, c.text[:53], Format(sc)[:53])
			}
		})
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { IsSampled([]byte(sent)) }))
}

func TestSpansGoBelowTheOneInTheContext(t *testing.T) {
	kept := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(kept))
	ctx, span := Start(context.Background(), "nobody asked")
	require.False(t, span.IsRecording())
	require.Empty(t, Sampled(ctx))

	root, parent := provider.Tracer(Scope).Start(Under(context.Background(), sent), "root")
	_, child := Start(root, "child")
	End(child, errors.New("refused"))
	began := time.Unix(1000, 0)
	Done(root, "before", began, began.Add(time.Second))
	require.Equal(t, sent[:35], Sampled(root)[:35])
	quiet, none := Start(Quiet(root), "nobody asked")
	require.False(t, none.IsRecording())
	require.Empty(t, Sampled(quiet), "the span is not recorded here")
	End(parent, context.Canceled)

	spans := kept.GetSpans()
	require.Len(t, spans, 3)
	require.Equal(t, codes.Error, spans[0].Status.Code)
	require.Equal(t, time.Second, spans[1].EndTime.Sub(spans[1].StartTime))
	require.Equal(t, codes.Unset, spans[2].Status.Code)
	for _, s := range spans[:2] {
		require.Equal(t, spans[2].SpanContext.SpanID(), s.Parent.SpanID())
	}
}

func TestSharesAreEven(t *testing.T) {
	for _, c := range []struct {
		share float64
		want  int
	}{{0, 0}, {0.01, 10}, {0.25, 250}, {1, 1000}} {
		s, n := NewShare(c.share), 0
		for i := range 1000 {
			if s.Pick() {
				n++
			} else {
				require.False(t, i == 0 && c.share > 0)
			}
		}
		require.InDelta(t, c.want, n, 1)
	}
}
