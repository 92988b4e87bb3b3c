package publish_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// withStates makes a correction publish all rows with their states.
func withStates(c *publish.Correction, content rows) *publish.Correction {
	c.Content = content.inOrder(true)
	return c
}

func TestStatesGoWithTheirRevision(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	d.correct(s, withStates(d.correction(d.publish(s, 1, true, before), "x", after), after))
	row := d.latest(1)
	require.Len(t, row.States, 1)
	require.Equal(t, "states", row.States[0].TopicID)
	require.Equal(t, 2, row.States[0].Revision)
	require.True(t, row.States[0].Whole)
	content, err := d.contents().ReadStates(t.Context(), row)
	require.NoError(t, err)
	require.Equal(t, after.without(), asRows(content))
	for _, c := range content {
		require.Equal(t, "s"+string(c.Values), string(c.State))
	}

	// Without the states topic they are still in the view, and the values in the result topic.
	d.kafka.MakeTopicAgain(ledger.StatesTopic("p"), "again", 2)
	content, err = d.contents().ReadStates(t.Context(), row)
	require.NoError(t, err)
	require.Len(t, content, 3)
	require.NotEmpty(t, content[0].State)
	d.redis.FlushAll()
	_, err = d.contents().ReadStates(t.Context(), row)
	var gone *publish.GoneError
	require.ErrorAs(t, err, &gone)
	require.ErrorContains(t, err, "the topic was made again since: the rows went with the topic before it; Redis does not have it any more")
	require.Equal(t, after.without(), d.read(row))
}

func TestStatesOfSomeKeysAreNotPublished(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	c := d.correction(d.publish(s, 1, true, before), "x", after)
	c.Content = publish.InOrder{Rows: func(_ context.Context, emit func(ledger.Content) error) (int64, error) {
		return 9, after.emit(false, func(c ledger.Content) error {
			if string(c.Key) == `{"k":"d"}` {
				c.State = []byte("s")
			}
			return emit(c)
		})
	}}
	_, err := d.tryCorrect(s, c)
	require.ErrorIs(t, err, store.ErrCorrupt)
	require.ErrorContains(t, err, "states of 1 of them")
	require.Equal(t, 1, d.latest(1).Revision)
}

func TestContentsThatAreGone(t *testing.T) {
	for name, c := range map[string]struct {
		lose func(d *desk, row *ledger.Row)
		want string // "" when it can still be read
	}{
		"Redis lost it":     {func(d *desk, _ *ledger.Row) { d.redis.FlushAll() }, ""},
		"result topic gone": {func(d *desk, _ *ledger.Row) { d.kafka.MakeTopicAgain("out", "other", 0) }, ""},
		"result topic made again, view expired": {func(d *desk, _ *ledger.Row) {
			d.kafka.MakeTopicAgain("out", "other", 3)
			d.pass(time.Hour)
		}, "topic out holds 0 with 00000000000000000000000000000000; the topic was made again since"},
		"result topic gone, view expired": {func(d *desk, _ *ledger.Row) {
			d.kafka.MakeTopicAgain("out", "other", 0)
			d.pass(time.Hour)
		}, "Redis does not have it any more"},
		"another content": {func(d *desk, row *ledger.Row) {
			row.Checksum = "00"
		}, "ledger and contents disagree, and nothing shows that the topic's retention took rows: run millrace verify p; " +
			"the ledger names 3 keys with checksum 00, Redis holds 3 with"},
		"a row of version 1": {func(d *desk, row *ledger.Row) {
			row.Version, row.Links = 1, nil
			d.redis.FlushAll()
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			row := *d.publish(d.slot(), 1, true, before)
			d.publish(d.slot(), 2, true, other.without())
			c.lose(d, &row)
			content, err := d.contents().Read(t.Context(), &row)
			if c.want == "" {
				require.NoError(t, err)
				require.Equal(t, before, asRows(content))
				return
			}
			var gone *publish.GoneError
			require.ErrorAs(t, err, &gone)
			require.ErrorContains(t, err, "window hour/1970-01-01T01:00:00Z, revision 1: ")
			require.ErrorContains(t, err, c.want)
			results := d.contents()
			results.State = nil
			_, err = results.Read(t.Context(), &row)
			require.ErrorAs(t, err, &gone)
			require.Equal(t, name != "another content", gone.Expired, "a topic that was made again contradicts nothing")
		})
	}
}

// A ledger row can be seen before the rows of its content: another transaction that is open hides them.
func TestContentsWaitForAnOpenTransaction(t *testing.T) {
	d := newDesk(t)
	d.kafka.AddTopic("p.ledger", 2)
	open, err := d.kafka.Open(t.Context(), 1)
	require.NoError(t, err)
	require.NoError(t, open.Begin())
	var held []publish.Record
	for key := range before { // one in each partition that the window's rows go to
		held = append(held, publish.Record{Topic: "out", Key: []byte(key), Value: []byte(`{}`)})
	}
	require.NoError(t, publish.Send(t.Context(), open, held))
	row := d.publish(d.slot(), 1, true, before)
	reader := d.contents()
	reader.State, reader.Wait = nil, time.Millisecond
	_, err = reader.Read(t.Context(), row)
	require.ErrorContains(t, err, "an open transaction hides what stands at and behind offset 0")
	var gone *publish.GoneError
	require.NotErrorAs(t, err, &gone)

	looked := false
	reader.Wait = time.Minute
	reader.Kafka = &lookKafka{d.kafka, func() {
		if !looked {
			looked = true
			require.NoError(t, open.Commit())
		}
	}}
	content, err := reader.Read(t.Context(), row)
	require.NoError(t, err)
	require.True(t, looked)
	require.Equal(t, before, asRows(content))
}

// lookKafka calls look before it answers where logs end.
type lookKafka struct {
	*publishtest.Kafka
	look func()
}

func (k *lookKafka) Ends(ctx context.Context, tps ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error) {
	k.look()
	return k.Kafka.Ends(ctx, tps...)
}
