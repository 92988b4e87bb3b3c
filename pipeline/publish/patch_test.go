package publish_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
)

func dropRows(*ledger.Rows) error { return nil }

// The first key whose values are not those that the replay has compared with is named.
func TestWrongBaseIsNamed(t *testing.T) {
	changed := publish.Change{Old: []byte("1"), New: ledger.Content{Key: []byte("b"), Values: []byte("2")}}
	added := publish.Change{New: ledger.Content{Key: []byte("b"), Values: []byte("2")}}
	for name, c := range map[string]struct {
		base   ledger.Content
		change publish.Change
	}{
		"other values":             {ledger.Content{Key: []byte("b"), Values: []byte("9")}, changed},
		"overflow":                 {ledger.Content{Key: []byte("b"), Values: []byte("1"), Overflow: true}, changed},
		"missing":                  {ledger.Content{Key: []byte("c"), Values: []byte("1")}, changed},
		"a key that should be new": {ledger.Content{Key: []byte("b"), Values: []byte("2")}, added},
	} {
		patch := publish.NewPatch(1, []publish.Change{c.change}).On(&publish.Base{Rows: []ledger.Content{c.base}})
		_, _, err := patch.Whole(t.Context(), dropRows)
		require.ErrorIs(t, err, publish.ErrWrongContent, name)
		require.ErrorContains(t, err, "key b", name)
	}
}

// What differs between two contents is refused on another base than the one that it was made of.
func TestAPatchIsRefusedOnAnotherBase(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		random := func() rows {
			made := rows{}
			for k := range 21 + rnd.IntN(100) {
				if rnd.IntN(2) == 0 {
					made[fmt.Sprintf(`{"k":%d}`, k)] = fmt.Sprintf(`{"n":%d}`, rnd.IntN(3))
				}
			}
			return made
		}
		base, counted, other := random(), random(), random()
		patch := publish.NewPatch(1, base.changesTo(counted, false))
		require.Equal(t, counted, whole(t, patch.On(baseOf(base))))
		_, _, err := patch.On(baseOf(other)).Whole(context.Background(), dropRows)
		require.ErrorIs(t, err, publish.ErrWrongContent, seed)
	}
}

func baseOf(of rows) *publish.Base {
	base := new(publish.Base)
	for key, values := range of {
		base.Rows = append(base.Rows, ledger.Content{Key: []byte(key), Values: []byte(values)})
	}
	return base
}

// whole returns the rows of a patch but for the deleted ones.
func whole(t *testing.T, p *publish.Patch) rows {
	t.Helper()
	found := rows{}
	_, _, err := p.Whole(t.Context(), func(all *ledger.Rows) error {
		for _, c := range all.Content {
			if !c.Deleted {
				found[string(c.Key)] = string(c.Values)
			}
		}
		return nil
	})
	require.NoError(t, err)
	return found
}
