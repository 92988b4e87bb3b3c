package app

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// fleetOf is a fleet of ready processes; the i-th has seats[i] hot paths of pipeline p.
func fleetOf(counts ...int) []member {
	var all []member
	n := 0
	for i, count := range counts {
		m := member{Queue: fmt.Sprintf("q%d", i), Worker: fmt.Sprintf("w%d", i), Ready: true, WAL: true}
		for range count {
			m.Seats = append(m.Seats, seat{Pipeline: "p", Replica: n, Steady: true})
			n++
		}
		all = append(all, m)
	}
	return all
}

// carry carries a move out.
func carry(t *testing.T, members []member, m move) {
	from := slices.IndexFunc(members, func(x member) bool { return x.Queue == m.from })
	to := slices.IndexFunc(members, func(x member) bool { return x.Queue == m.to })
	at := slices.IndexFunc(members[from].Seats, func(s seat) bool { return s.Pipeline == m.pipeline && s.Replica == m.replica })
	require.GreaterOrEqual(t, at, 0)
	s := members[from].Seats[at]
	require.True(t, s.Steady && (members[to].WAL || !s.Journal) && members[to].Ready)
	members[from].Seats = slices.Delete(slices.Clone(members[from].Seats), at, at+1)
	members[to].Seats = append(slices.Clone(members[to].Seats), s)
}

func counts(members []member) (all []int) {
	for _, m := range members {
		all = append(all, len(m.Seats))
	}
	return all
}

func TestNextMove(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fleet  []member
		change func(all []member)
		moves  int
		want   []int
	}{
		{"two join one that has three", fleetOf(3, 0, 0), nil, 2, []int{1, 1, 1}},
		{"one more is no reason", fleetOf(2, 1), nil, 0, []int{2, 1}},
		{"nor are two, spread over pipelines that others have as well", fleetOf(2, 0), func(all []member) {
			all[0].Seats[0].Pipeline, all[0].Seats[1].Pipeline = "a", "b"
			all[1].Seats = []seat{{Pipeline: "a", Replica: 1, Steady: true}, {Pipeline: "b", Replica: 1, Steady: true}}
		}, 0, []int{2, 2}},
		{"pipelines of one hot path each", fleetOf(4, 0), func(all []member) {
			for i := range all[0].Seats {
				all[0].Seats[i].Pipeline = fmt.Sprint("p", i)
			}
		}, 2, []int{2, 2}},
		{"one that is not ready gets none", fleetOf(3, 0), func(all []member) { all[1].Ready = false }, 0, []int{3, 0}},
		{"one that cannot ask Temporal gives none", fleetOf(3, 0), func(all []member) { all[0].Ready = false }, 0, []int{3, 0}},
		{"one that ends is waited for", fleetOf(3, 0, 0), func(all []member) { all[2].Ending = true }, 0, []int{3, 0, 0}},
		{"nothing moves in trouble", fleetOf(3, 0), func(all []member) { all[0].Seats[2].Steady = false }, 0, []int{3, 0}},
		{"a journal needs a directory", fleetOf(4, 0, 0), func(all []member) {
			for i := range all[0].Seats {
				all[0].Seats[i].Journal = true
			}
			all[1].WAL = false
		}, 2, []int{2, 0, 2}},
		{"one that has refused is not asked again", fleetOf(4, 0, 0), func(all []member) {
			all[2].Refused = []refusedMove{{"p", "q1"}}
		}, 2, []int{2, 0, 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.change != nil {
				tt.change(tt.fleet)
			}
			moves := 0
			for {
				m, ok := nextMove(tt.fleet)
				if !ok {
					break
				}
				carry(t, tt.fleet, m)
				moves++
				require.LessOrEqual(t, moves, tt.moves)
			}
			require.Equal(t, tt.moves, moves)
			require.Equal(t, tt.want, counts(tt.fleet))
		})
	}
}

// potential is what every move makes smaller, in this order.
func potential(members []member) [2]int {
	var p [2]int
	for _, m := range members {
		of := map[string]int{}
		for _, s := range m.Seats {
			of[s.Pipeline]++
		}
		for _, n := range of {
			p[0] += n * n
		}
		p[1] += len(m.Seats) * len(m.Seats)
	}
	return p
}

// Whatever the fleet: moves end, none undoes another, all members agree on the next one, and in the end no process could give
// another one a hot path and both would not mind.
func TestMovesEnd(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 3))
		var fleet []member
		for i := range 1 + rng.IntN(7) {
			fleet = append(fleet, member{
				Queue: fmt.Sprintf("q%d", i), Worker: "w", Ready: rng.IntN(8) > 0, WAL: rng.IntN(3) > 0,
			})
		}
		replicas := map[string]int{}
		for range rng.IntN(30) {
			name := fmt.Sprint("p", rng.IntN(5))
			m := &fleet[rng.IntN(len(fleet))]
			s := seat{Pipeline: name, Replica: replicas[name], Steady: true, Journal: name < "p2" && m.WAL}
			replicas[name]++
			m.Seats = append(m.Seats, s)
		}
		last := potential(fleet)
		for moves := 0; ; moves++ {
			m, ok := nextMove(fleet)
			shuffled := slices.Clone(fleet)
			rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			for i := range shuffled {
				shuffled[i].Seats = slices.Clone(shuffled[i].Seats)
				rng.Shuffle(len(shuffled[i].Seats), func(a, b int) {
					seats := shuffled[i].Seats
					seats[a], seats[b] = seats[b], seats[a]
				})
			}
			again, okAgain := nextMove(shuffled)
			require.Equal(t, ok, okAgain, "seed %d", seed)
			require.Equal(t, m, again, "seed %d: all members come to the same move", seed)
			if !ok {
				break
			}
			carry(t, fleet, m)
			now := potential(fleet)
			require.True(t, now[0] < last[0] || now[0] == last[0] && now[1] < last[1], "seed %d: %v after %v", seed, now, last)
			require.Less(t, moves, 100, "seed %d", seed)
			last = now
		}
		for _, from := range fleet {
			for _, to := range fleet {
				for _, s := range from.Seats {
					if from.Ready && to.Ready && (to.WAL || !s.Journal) && from.Queue != to.Queue {
						require.LessOrEqual(t, from.seatsOf(s.Pipeline)-to.seatsOf(s.Pipeline), 1, "seed %d", seed)
					}
				}
			}
		}
	}
}
