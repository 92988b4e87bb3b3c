package cli

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/connect"
	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

// A Redis that takes connections and answers nothing, as a frozen one does, is told from a Kafka that is away, also when the time
// for a look is up before Redis' own.
func TestAFrozenRedisIsNotTakenForKafka(t *testing.T) {
	srv := startKafka(t)
	frozen, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, frozen.Close()) })
	sh := &shell{out: io.Discard, err: io.Discard, conn: &connect.Options{
		Kafka: connect.KafkaOptions{Addrs: srv.kafka.Brokers}, Redis: connect.RedisOptions{Addrs: []string{frozen.Addr().String()}}}}

	limited, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = sh.connectData(limited)
	require.ErrorIs(t, err, errRedisAway)
	require.Equal(t, ExitUnreachable, Code(err))

	o := observer{sh: sh, spec: &spec.Spec{Name: "orders"}}
	found := findings{pipeline: "orders"}
	require.NoError(t, o.lookAtLanes(t.Context(), time.Now(), &found))
	require.Len(t, found.conditions, 1)
	require.Equal(t, contract.ConditionRedisAway, found.conditions[0].Kind, found.conditions[0].Reason)
}
