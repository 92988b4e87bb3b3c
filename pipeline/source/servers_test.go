package source

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"millrace/pipeline/credential"
)

// TestTLS goes over the connections of our own and over those that sarama makes.
func TestTLS(t *testing.T) {
	https := httptest.NewTLSServer(nil)
	defer https.Close()
	authority := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: https.Certificate().Raw})
	require.NoError(t, os.WriteFile(authority, text, 0o600))
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.TLS(&tls.Config{Certificates: https.TLS.Certificates}))
	require.NoError(t, err)
	defer fake.Close()
	cfg := testConfig(fake.ListenAddrs()...)
	cfg.TLS = credential.TLS{Enable: true, CAFile: authority}
	k := connect(t, &kafka{cfg: cfg})
	topic := k.topic(t, 1)
	feedOne(t, cfg, topic)
	var got []string
	_, err = k.cluster.ReadCommitted(t.Context(), TopicPartition{Topic: topic}, 0, func(r Record) error {
		got = append(got, string(r.Value))
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, []string{"value"}, got)

	cfg.TLS.CAFile = ""
	began := time.Now()
	_, err = NewCluster(t.Context(), cfg)
	require.ErrorIs(t, err, ErrUnreachable)
	require.ErrorContains(t, err, "TLS: tls: failed to verify certificate: x509")
	require.Less(t, time.Since(began), 5*time.Second, "found out while connecting, not after many tries")
}

// feedOne appends one record with a producer of its own.
func feedOne(t *testing.T, cfg Config, topic string) {
	t.Helper()
	p, err := NewProducer(t.Context(), cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	done := false
	_, err = p.Feed(t.Context(), topic, func() ([]byte, []byte, error) {
		if done {
			return nil, nil, io.EOF
		}
		done = true
		return nil, []byte("value"), nil
	}, nil)
	require.NoError(t, err)
}

// TestNothingCreatesATopicByAskingForIt has a broker that would.
func TestNothingCreatesATopicByAskingForIt(t *testing.T) {
	k := fakeKafka(t, kfake.AllowAutoTopicCreation())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := k.cluster.Topic(ctx, "typo")
	require.ErrorIs(t, err, ErrUnknownTopic)
	_, err = k.cluster.Ends(ctx, TopicPartition{Topic: "typo"})
	require.Error(t, err)
	_, err = k.cluster.MaxMessageBytes(ctx, "typo")
	require.ErrorIs(t, err, ErrUnknownTopic)
	p, err := NewProducer(ctx, k.cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	require.Error(t, p.Send(ctx, []SideRecord{{Topic: "typo", Value: []byte("x")}}))
	_, err = p.Feed(ctx, "typo", func() ([]byte, []byte, error) { return nil, nil, io.EOF }, nil)
	require.Error(t, err)
	m, err := NewMembership(MembershipConfig{Config: k.cfg, Cluster: k.cluster, Group: "g", Topics: []string{"typo"}})
	require.NoError(t, err)
	joined, leave := context.WithTimeout(t.Context(), 2*time.Second)
	defer leave()
	require.NoError(t, m.Run(joined, ownsNothing{t}))
	topics, err := k.cluster.Topics(t.Context())
	require.NoError(t, err)
	require.Empty(t, topics)
}

type ownsNothing struct{ t *testing.T }

func (o ownsNothing) Own(_ context.Context, _ Claim) {
	o.t.Errorf("claims a partition of a topic that does not exist")
}
