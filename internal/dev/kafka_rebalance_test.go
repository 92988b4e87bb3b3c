package dev

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Of three members one is gone, and the others give their joins up and come again, each at its own time, before the wait that
// they ask for is over. They get the group all the same.
func TestMembersThatJoinInTurnsDoNotWaitForever(t *testing.T) {
	broker, err := StartKafka(t.Context(), KafkaConfig{RebalanceWait: time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { broker.Close() })
	join := func(instance, member string) (*kmsg.JoinGroupResponse, error) {
		client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()))
		require.NoError(t, err)
		defer client.Close()
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.InstanceID, req.MemberID, req.ProtocolType = "g", &instance, member, "consumer"
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 300_000, 600_000
		protocol := kmsg.NewJoinGroupRequestProtocol()
		protocol.Name = "range"
		req.Protocols = append(req.Protocols, protocol)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		return req.RequestWith(ctx, client)
	}
	first, err := join("gone", "")
	require.NoError(t, err)
	require.Zero(t, first.ErrorCode)

	answered := make(chan string, 2)
	for i, instance := range []string{"a", "b"} {
		time.AfterFunc(time.Duration(i)*1500*time.Millisecond, func() {
			for t.Context().Err() == nil {
				if r, err := join(instance, ""); err == nil && r.ErrorCode == 0 {
					answered <- instance
					return
				}
			}
		})
	}
	select {
	case <-answered:
	case <-time.After(patience):
		require.Fail(t, "no member was ever answered")
	}
}
