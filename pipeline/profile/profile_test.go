package profile_test

import (
	"bytes"
	"runtime/pprof"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/profile"
)

func TestLabelsAreInheritedUntilSetAnew(t *testing.T) {
	started, end := make(chan struct{}), make(chan struct{})
	defer close(end)
	wait := func() {
		started <- struct{}{}
		<-end
	}
	go func() {
		profile.Set(profile.OfLane(profile.Lane, "orders", "in", 3))
		go wait()
		go func() {
			profile.Set(profile.OfLane(profile.Committer, "orders", "in", 3))
			wait()
		}()
		go func() {
			profile.Set(profile.OfPipeline(profile.Closer, "orders"))
			wait()
		}()
		profile.Set(profile.OfProcess(profile.WAL))
		wait()
	}()
	for range 4 {
		<-started
	}
	var text bytes.Buffer
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&text, 1))
	for _, want := range []string{
		`{"part":"lane", "partition":"3", "pipeline":"orders", "topic":"in"}`,
		`{"part":"committer", "partition":"3", "pipeline":"orders", "topic":"in"}`,
		`{"part":"closer", "pipeline":"orders"}`,
		`{"part":"wal"}`,
	} {
		require.Contains(t, text.String(), want)
	}
}
