package engine

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTroubleIsToldOnceAndShownWhileItLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		kafka := &trouble{log: slog.New(slog.NewTextHandler(&out, nil)), part: "consumer group"}
		require.Empty(t, kafka.current())
		for range 5 {
			kafka.note(errors.New("no coordinator"))
		}
		require.Equal(t, "no coordinator", kafka.current())
		require.Equal(t, 1, strings.Count(out.String(), "no coordinator"))
		kafka.note(nil)
		kafka.note(nil)
		require.Empty(t, kafka.current())
		require.Equal(t, 1, strings.Count(out.String(), "answers again"))
		kafka.note(errors.New("not leader"))
		time.Sleep(troubleAge + time.Second) //nolint:forbidigo // virtual time of a synctest bubble
		require.Empty(t, kafka.current(), "nobody says when a group is well again")
		kafka.note(errors.New("not leader"))
		require.Equal(t, 2, strings.Count(out.String(), "not leader"))
	})
}
