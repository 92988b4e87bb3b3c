package activities

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
)

var errNoWAL = errors.New("it has no WAL directory")

// claimant asks for a place as Temporal does: again and again, of one process after the other, with the details of the last
// heartbeat.
type claimant struct {
	t       *testing.T
	fleet   []*process
	next    int
	details any
	tries   int
}

// claim makes one try.
func (c *claimant) claim(in contract.ClaimInput) (*contract.Claimed, error) {
	p := c.fleet[c.next%len(c.fleet)]
	c.next++
	c.tries++
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	if c.details != nil {
		env.SetHeartbeatDetails(c.details)
	}
	placement := NewPlacement(p.host, p.temporal)
	env.RegisterActivity(placement)
	p.temporal.last = nil
	value, err := env.ExecuteActivity(placement.Claim, in)
	if p.temporal.last != nil {
		c.details = p.temporal.last
	}
	if err != nil {
		return nil, err
	}
	var got contract.Claimed
	require.NoError(c.t, value.Get(&got))
	return &got, nil
}

// until claims until there is an answer.
func (c *claimant) until(in contract.ClaimInput) *contract.Claimed {
	c.details = nil
	for range 100 {
		if got, err := c.claim(in); err == nil {
			return got
		}
	}
	require.FailNow(c.t, "no answer")
	return nil
}

// A worker that cannot run the spec refuses at once, so that the one that can is found after a few tries.
func TestClaimIsRefusedByThoseWhoCannot(t *testing.T) {
	redis := newFakeRedis()
	fleet := []*process{newProcess(redis, "a"), newProcess(redis, "b"), newProcess(redis, "c")}
	fleet[0].engines.incapable, fleet[1].engines.incapable = errNoWAL, errNoWAL
	c := &claimant{t: t, fleet: fleet}
	in := contract.ClaimInput{Pipeline: "orders", Spec: []byte(specJSON)}
	_, err := c.claim(in)
	requireType(t, err, contract.ErrorIncapable)
	require.ErrorContains(t, err, "worker a: it has no WAL directory")
	var app *temporal.ApplicationError
	require.ErrorAs(t, err, &app)
	require.LessOrEqual(t, app.NextRetryDelay(), 100*time.Millisecond)
	require.Equal(t, "c", c.until(in).Worker)
	require.LessOrEqual(t, c.tries, 3)

	// A workflow of an earlier version does not say what it wants to run.
	c.next = 0
	require.Equal(t, "a", c.until(contract.ClaimInput{Pipeline: "orders"}).Worker)
}

// When none can run the spec the claim says so, once, and again when somebody else says something else.
func TestClaimSaysThatNobodyCan(t *testing.T) {
	redis := newFakeRedis()
	a, b := newProcess(redis, "a"), newProcess(redis, "b")
	a.engines.incapable = errNoWAL
	b.engines.incapable = errors.New("its version does not know this spec")
	c := &claimant{t: t, fleet: []*process{a, b}}
	in := contract.ClaimInput{Pipeline: "orders", Spec: []byte(specJSON)}
	got := c.until(in)
	require.Empty(t, got.Queue)
	require.Equal(t, 6, c.tries, "each was asked three times")
	var texts []string
	for _, r := range got.Refused {
		texts = append(texts, r.Worker+": "+r.Reason)
	}
	require.ElementsMatch(t, []string{"a: it has no WAL directory", "b: its version does not know this spec"}, texts)

	in.Refused, c.details = got.Refused, nil
	for range 30 {
		_, err := c.claim(in)
		requireType(t, err, contract.ErrorIncapable)
	}
	b.engines.incapable = errNoWAL
	got = c.until(in)
	require.Len(t, got.Refused, 2)
	in.Refused = got.Refused
	b.engines.incapable = nil
	require.Equal(t, "b", c.until(in).Worker)
}

// A spec with a field that this version does not know is refused, not failed for good: a newer worker knows it.
func TestClaimOfANewerSpec(t *testing.T) {
	c := &claimant{t: t, fleet: []*process{newProcess(newFakeRedis(), "a")}}
	_, err := c.claim(contract.ClaimInput{Pipeline: "orders", Spec: []byte(`{"name":"orders","quantum":true}`)})
	requireType(t, err, contract.ErrorIncapable)
	require.ErrorContains(t, err, "quantum")
	var app *temporal.ApplicationError
	require.ErrorAs(t, err, &app)
	require.False(t, app.NonRetryable())
}

func TestRefusalsAreForgotten(t *testing.T) {
	now := time.Now()
	list := withRefusal(nil, "a", "old", now)
	list = withRefusal(list, "b", "old", now.Add(2*refusalLasts))
	require.Len(t, list, 1, "a has not been heard of since")
	for n := range 2 * contract.MaxRefusals {
		list = withRefusal(list, string(rune('c'+n)), "x", now.Add(2*refusalLasts))
	}
	require.Len(t, list, contract.MaxRefusals)
	list = withRefusal(list, "c", "new", now.Add(2*refusalLasts))
	require.Equal(t, 1, list[len(list)-1].Times, "another reason is counted anew")
}

// A process that is offered a hot path answers for itself, whoever holds the lease.
func TestOffer(t *testing.T) {
	redis := newFakeRedis()
	a, b := newProcess(redis, "a"), newProcess(redis, "b")
	_, _, err := a.host.attach(context.Background(), orders(t), 0)
	require.NoError(t, err)
	defer a.drain(t)
	offer := contract.ClaimInput{Pipeline: "orders", Spec: []byte(specJSON), Offer: true}
	c := &claimant{t: t, fleet: []*process{b}}
	got, err := c.claim(offer)
	require.NoError(t, err)
	require.Equal(t, contract.HostQueue("b"), got.Queue)
	require.Equal(t, 1, b.host.count("orders", 7), "it counts as one that is about to come")
	b.engines.incapable = errNoWAL
	_, err = c.claim(offer)
	requireType(t, err, contract.ErrorIncapable)
	b.engines.incapable = nil
	b.drain(t)
	_, err = c.claim(offer)
	requireType(t, err, contract.ErrorIncapable)
}

// An attempt that is cancelled after another one has attached does not stop the hot path under it: its holder was taken for gone, and
// was not.
func TestCancelOfAnEarlierAttemptStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(newFakeRedis(), "a")
		first := new(fakeTemporal)
		old := p.runWith(first, 3600)
		pass(time.Second)
		current := p.run()
		pass(time.Second)
		first.set(temporal.NewCanceledError())
		pass(3 * time.Second)
		o := <-old
		require.True(t, temporal.IsCanceledError(o.err))
		require.True(t, p.engines.get(0).running())
		require.True(t, isRunning(current))
		require.True(t, p.host.Paths()[0].Attached)
		p.drain(t)
		<-current
	})
}
